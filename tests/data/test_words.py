# ruff: noqa: RUF001  letters of other alphabets
"""Words of texts in many languages: right answers are right, and what only looks like one is not."""

import unicodedata
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rxlm.data.records import Interaction, Question
from rxlm.data.scoring import Grade, grade, is_same_answer, word_f1, wrong_answers
from rxlm.data.words import find_values, names, normalise, words

ENGLAND, SCOTLAND = (f"🏴{''.join(chr(0xE0000 + ord(c)) for c in letters)}\U000e007f" for letters in ("gbeng", "gbsct"))


@pytest.mark.parametrize(
    ("answer", "value", "others"),
    [
        ("你的狗叫小白。", "小白", ["大黄"]),
        ("犬の名前はポチです。", "ポチ", ["ハチ"]),
        ("あなたは東京に住んでいます。", "東京", ["京都"]),
        ("당신은 서울에 살아요.", "서울", ["부산"]),
        ("강아지 이름은 Rex예요.", "Rex", ["Otto"]),
        ("สุนัขของคุณชื่อมะลิ", "มะลิ", ["ขาว"]),
        ("आपका नाम राम है।", "राम", ["रामा"]),
        ("اسمك ليلى.", "ليلى", ["سلمى"]),
        ("ذهبت بليلى", "لَيْلَى", ["سلمى"]),
        ("גרת בחיפה.", "חיפה", ["יפו"]),
        ("IZMIR'de yaşıyorsun.", "İzmir", ["Ankara"]),
        ("Adın Işıl.", "IŞIL", ["Ali"]),
        ("Du wohnst in der HAUPTSTRASSE.", "Hauptstraße", ["Ringstraße"]),
        (unicodedata.normalize("NFD", "It is José."), "José", ["Otto"]),
        ("It is José.", unicodedata.normalize("NFD", "José"), ["Otto"]),
        ("Your sign is 🐶.", "🐶", ["🐱"]),
        ("It is 👩‍🚀!", "👩‍🚀", ["👩"]),
        ("You use C++.", "C++", ["C", "C#"]),
        ("You use C# most.", "C#", ["C", "C++"]),
        ("It is 3.5 km.", "3.5 km", ["3", "5 km"]),
        ("You had 7,000 of them.", "7000", ["7"]),
        ("رقمك ٣", "3", ["4"]),
        ("It was \u22123 degrees.", "-3", ["3"]),
        ("Rex's bowl is blue, and it is Rex\u2019s.", "Rex", ["Otto"]),
        ("It's O'Brien.", "O\u2019Brien", ["Brien"]),
        ("اسمك كريم.", "كريم", ["ريم"]),
        ("اسمك ريم.", "ريم", ["كريم"]),
        ("أنت في القاهرة.", "القاهرة", ["قاهرة"]),
        ("שמך שרון.", "שרון", ["רון"]),
        (f"It is {ENGLAND}.", ENGLAND, [SCOTLAND, "🏴"]),
        ("Your blood type is A-.", "A-", ["A", "A+"]),
        ("It is AB\u2212, you said.", "AB-", ["AB", "AB+", "B-"]),
        ("A- Rome\nB- Paris", "Rome", ["A-", "B-"]),
        ("The Vitamin-A-Test.", "A", ["A-"]),
        ("It cost $5.", "$5", ["5", "€5"]),
        ("Es kostet 5 €.", "€5", ["5", "$5"]),
        ("Debes -$5.", "-$5", ["$5", "5"]),
        ("Es waren 50\u202f%!", "50%", ["50"]),
        ("Yüzde: %50.", "50%", ["50"]),
        ("It is in F♯.", "F#", ["F", "F♭"]),
        ("It is B♭m.", "B♭m", ["B", "B♭"]),
        ("You have '5'.", "5", ["50"]),
        ("3-5 of them.", "3", ["-5"]),
        ("Es kostete $ 5, nicht 6 %.", "$5", ["5", "6"]),
        ("- 5 apples", "5", ["-5"]),
        ("$3-$5", "$3", ["$35"]),
        ("At 7:30.", "7:30", ["7", "30"]),
        ("At 7：30.", "7:30", ["7"]),
        ("It cost 1\u00a0000 euros.", "1,000", ["1", "000"]),
        ("It cost 1 000 000 euros.", "1000000", ["1 000", "1"]),
        ("It cost 1\u2019000.50 francs.", "1,000.50", ["1", "1000"]),
        ("العدد ١٬٠٠٠", "1 000", ["1"]),
        ("You rolled 4, 100 and 200.", "100", ["4100"]),
        ("In 2021 100 people came.", "100", ["100"]),
        ("You like ❤.", "❤\ufe0f", ["♥"]),
        ("You like ❤\ufe0f\u200d🔥.", "❤\u200d🔥", ["❤"]),
        ("It was ♪!", "♪", ["♫"]),
        ("Ｃ＋＋です。", "C++", ["C"]),
        ("Тебя зовут Фёдор.", "Федор", ["Федора"]),
        ("اسمك احمد", "أحمد", ["محمد"]),
        ("اسمك علی", "علي", ["على"]),
    ],
)
def test_an_answer_that_names_the_value_is_right(answer: str, value: str, others: list[str]) -> None:
    assert grade(answer, Question("name", (value,), 1), [value, *others]) is Grade.RIGHT
    (found, *_) = find_values(answer, (value,))
    assert normalise(value) in normalise(answer[found.start : found.end])


@pytest.mark.parametrize(
    ("answer", "value", "others"),
    [
        ("आपका नाम रामा है।", "राम", ["रामा"]),
        ("You use C.", "C++", ["C", "C#"]),
        ("You use C++.", "C", []),
        ("It is \u22123.", "3", ["4"]),
        ("It is 3.5 km.", "3", ["4"]),
        ("당신은 서울대공원에 갔어요.", "서울", ["부산"]),
        ("It is 👩‍🚀.", "👩", []),
        ("Es ist die Hauptstraßenbahn.", "Hauptstraße", []),
        ("It is blueish.", "blue", []),
        ("اسمك كريم.", "ريم", ["كريم"]),
        ("שמך שרון.", "רון", ["שרון"]),
        (f"It is {ENGLAND}.", "🏴", []),
        ("It is A-.", "A", []),
        ("It is A.", "A-", []),
        ("It cost $5.", "€5", []),
        ("It was 50%.", "50", []),
        ("It was 50 %.", "50", []),
        ("It is in F♯.", "F", []),
        ("At 7:30.", "7", []),
        ("At 7:30.", "30", []),
        ("It cost 1 000 euros.", "1", []),
        ("It cost 1\u202f000 euros.", "1", []),
        ("It cost 1'000 francs.", "1", []),
        ("It cost 1.000 euros.", "1000", []),
    ],
)
def test_an_answer_that_names_something_else_is_not(answer: str, value: str, others: list[str]) -> None:
    assert grade(answer, Question("name", (value,), 1), [value, *others]) is not Grade.RIGHT


@pytest.mark.parametrize(
    "answer",
    [
        "You have not told me that.", "Das hast du mir nicht gesagt.", "Das weiß ich nicht.", "Tu ne me l'as pas dit.",
        "No me lo has dicho.", "Non me l\u2019hai detto.", "Dat heb je niet verteld.", "Bunu bana söylemedin.",
        "Ты мне этого не говорил.", "你没有告诉我。", "それは聞いていません。", "말하지 않았어요.", "잘 모르겠습니다.",
        "आपने मुझे नहीं बताया।", "لم تخبرني بذلك.", "לא אמרת לי.", "คุณไม่ได้บอก",
    ],
)  # fmt: skip
def test_phrases_of_not_knowing_are_known_in_many_languages(answer: str) -> None:
    assert grade(answer, Question("name", (), None), ["Rex"]) is Grade.RIGHT
    assert grade(answer, Question("name", ("Rex",), 1), ["Rex"]) is Grade.ABSTAINED


def test_phrases_of_not_knowing_can_be_given_and_are_whole_words() -> None:
    never_told = Question("name", (), None)
    assert grade("Dunno, mate.", never_told, ["Rex"]) is Grade.NOTHING
    assert grade("Dunno, mate.", never_told, ["Rex"], ("dunno",)) is Grade.RIGHT
    assert grade("It is no ideal place.", never_told, ["Rex"]) is Grade.NOTHING


def test_wrong_answers_exchange_the_value_in_any_normal_form() -> None:
    turn = Interaction("?", unicodedata.normalize("NFD", "Dein Freund José."), question=Question("n", ("José",), 1))
    assert "Dein Freund \\1." in wrong_answers(turn, ["José", "\\1"])


def test_no_wrong_answer_has_the_value_in_another_writing() -> None:
    turn = Interaction("?", "It was 1,000.", question=Question("n", ("1,000",), 1))
    wrong = wrong_answers(turn, ["1,000", "1 000", "7"])
    assert "It was 7." in wrong
    assert not any("1 000" in answer for answer in wrong)


def test_a_ligature_of_several_words_is_one() -> None:
    assert not names("قال ﷺ", "الله")
    assert names("قال ﷺ", "ﷺ")


def test_answers_of_other_scripts_are_compared_word_by_word() -> None:
    assert is_same_answer("走廊。", "走廊")
    assert not is_same_answer("走廊", "走")
    assert word_f1("在走廊", "走廊") == pytest.approx(0.8)


@given(st.text())
def test_words_stand_in_the_text_in_order_and_name_themselves(text: str) -> None:
    found = words(text)
    assert all(0 <= a.start < a.end <= b.start for a, b in pairwise(found))
    assert all(word.end <= len(text) and text[word.start : word.end] for word in found)
    assert not any(" " in word.text for word in found)
    assert not any(normalise(word.text) == "" for word in found if word.text.isalpha())


@given(st.lists(st.sampled_from(["red", "dark blue", "Rex", "C++", "小白", "3.5"]), min_size=1, max_size=4))
def test_every_value_of_a_list_is_found_where_it_stands(values: list[str]) -> None:
    text = ", ".join(values)
    assert [text[each.start : each.end] for each in find_values(text, values)] == values
    assert all(names(text, value) for value in values)


def test_own_dialogues_that_the_scorer_cannot_judge_are_noted(tmp_path: Path) -> None:
    from rxlm.mrq_bench.benchmark_data import load_data
    from rxlm.mrq_bench.config import BenchmarkConfig

    turn = '{"query": "What?", "answer": "%s", "question": {"expected": ["Rex"], "distance": 1}}'
    lines = ['{"query": "Rex", "answer": "Ok.", "interactions": [' + turn % said + "]}" for said in ("Rex.", "Max.")]
    source = tmp_path / "own.jsonl"
    source.write_text("\n".join(lines) + "\n")
    (note,) = load_data(BenchmarkConfig(data="jsonl", source=source)).notes
    assert "cannot judge 1 of 2 questions" in note
    assert "'Max.'" in note
