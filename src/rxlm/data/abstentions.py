"""Phrases with which an answer says that something was never told, or is not known, in many languages.

They are data: whoever scores answers in another way of speaking gives phrases besides them.
"""

_PHRASES = """
not told me | haven't told me | never told me | did not tell me | didn't tell me | not mentioned | haven't mentioned
never mentioned | did not mention | didn't mention | do not know | don't know | no idea
nicht gesagt | nicht erzählt | nicht erwähnt | nie gesagt | nie erzählt | nie erwähnt | nicht verraten | nicht genannt
weiß nicht | weiß ich nicht | weiß es nicht | keine ahnung
pas dit | jamais dit | pas mentionné | jamais mentionné | pas raconté | ne sais pas | aucune idée
no me has dicho | no me lo has dicho | nunca me has dicho | no me dijiste | no me lo dijiste | no has mencionado
no mencionaste | no me has contado | no sé | no lo sé | ni idea
non mi hai detto | non me l'hai detto | non me lo hai detto | non hai menzionato | non lo so | nessuna idea
não me disse | não me disseste | não me contou | não mencionou | não mencionaste | não sei | não faço ideia
niet verteld | niet gezegd | niet genoemd | nooit verteld | nooit gezegd | weet ik niet | weet het niet | geen idee
inte sagt | inte berättat | inte nämnt | aldrig sagt | vet inte | vet jag inte | ingen aning
ikke fortalt | ikke sagt | ikke nævnt | ikke nevnt | ved ikke | vet ikke
söylemedin | söylemediniz | bahsetmedin | bahsetmediniz | bilmiyorum | fikrim yok
nie powiedziałeś | nie powiedziałaś | nie wspomniałeś | nie wspomniałaś | nie mówiłeś | nie mówiłaś | nie wiem
не говорил | не говорила | не говорили | не сказал | не сказала | не сказали | не упоминал | не упоминали
не рассказывал | не рассказывали | не знаю | понятия не имею
chưa nói | không nói | chưa kể | chưa nhắc đến | không biết
没有告诉我 | 没告诉我 | 没有告诉过我 | 没有说过 | 没说过 | 没有提到 | 没提到 | 没有提过
不知道 | 沒有告訴我 | 沒告訴我 | 沒有說過 | 沒有提到
聞いていません | 聞いてない | 言っていません | 言われていません | 教えてもらっていません
教わっていません | 知りません | わかりません | 分かりません
말하지 않았 | 말한 적이 없 | 말씀하지 않 | 알려주지 않 | 알려 주지 않 | 언급하지 않 | 들은 적이 없
모르겠 | 모릅니다 | 몰라
नहीं बताया | नहीं पता | पता नहीं | मालूम नहीं | नहीं जानता | नहीं जानती
لم تخبرني | لم تخبريني | لم تقل لي | لم تقولي لي | لم تذكر | لا أعرف | لا أعلم
לא אמרת | לא סיפרת | לא הזכרת | לא יודע | לא יודעת
ไม่ได้บอก | ไม่เคยบอก | ไม่ได้กล่าวถึง | ไม่ทราบ | ไม่รู้
"""
ABSTENTIONS = tuple(phrase.strip() for line in _PHRASES.strip().splitlines() for phrase in line.split("|"))
