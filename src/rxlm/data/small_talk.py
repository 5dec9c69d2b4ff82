"""Small talk, which needs no memory, and answers to questions about facts that were never told."""

from functools import cache

from rxlm.data.fact_kinds import AnswerWording, Variety, Wording

_SMALL = """
Hello! | Hello! How can I help?
Good morning! | Good morning to you!
How are you? | I am fine, thank you.
What a nice day. | Yes, it is lovely today.
I slept well. | I am glad to hear that.
I am a bit tired. | Then take a short break.
It is raining again. | Take an umbrella with you.
Thank you. | You are welcome.
Tell me something nice. | You are good company.
I had a long day. | I hope you can rest now.
Do you like music? | Yes, I like music a lot.
It is cold outside. | Then put on a warm coat.
I am reading a book. | I hope it is a good one.
My train was late. | I am sorry to hear that.
I feel great today! | That is good news!
Can you help me? | Of course, what do you need?
"""

_FULL = """
Good evening. | Good evening! How was your day?
Hi there! | Hi! What is on your mind?
How is it going? | Very well, thank you. And you?
Do you ever sleep? | No, I am always here when you need me.
The weather is awful today. | Then it is a good day to stay in.
It is so hot that I cannot think. | Drink enough and stay in the shade.
I think it will snow tonight. | Then the garden will be white tomorrow.
I could not sleep last night. | I am sorry. Perhaps a walk will help.
I have a headache. | Some rest and fresh air may help.
My back hurts a little. | Try to sit up straight and stretch now and then.
I burnt my toast this morning. | That happens to everybody.
I missed the bus again. | Maybe leave a little earlier tomorrow.
The shop was closed when I got there. | How annoying! Try again tomorrow.
I have to clean the whole house. | Start with one room, then it looks less.
I finally tidied my desk. | Well done! That must feel good.
My neighbours are loud tonight. | Perhaps a friendly word will help.
I watched a film yesterday. | Was it a good one?
The film was far too long. | Some stories need fewer words.
I am waiting for a letter. | I hope it comes soon.
I have nothing to do. | How about a walk or a good book?
I am bored. | Shall we play a guessing game?
Tell me a joke. | Why do bees hum? They have forgotten the words.
Tell me another joke. | What has hands and cannot clap? A clock.
Tell me a riddle. | What gets wetter the more it dries? A towel.
What do you think about when you are alone? | About the questions that people ask me.
Are you a person? | No, I am a computer program.
Can you sing? | Only in writing, and rather badly.
Do you have a family? | No, but I have many people to talk to.
What can you do? | I can listen, remember and answer.
Do you like stories? | Yes, above all those with a happy ending.
What should I cook? | Something simple and warm is never wrong.
Give me some advice. | Take one step at a time.
I have an exam tomorrow. | You will do well. Go to bed early.
I passed my exam! | Congratulations! You worked hard for that.
I lost a game today. | Next time you will be luckier.
We won the match! | Wonderful! That calls for a party.
I had a lovely afternoon. | I am happy to hear that.
I am nervous about tomorrow. | Take a deep breath, you can do it.
I am so happy today! | That makes me happy, too.
I feel a little sad. | I am sorry. Do you want to talk about it?
Nobody ever listens to me. | I am listening.
I should do more sport. | A little every day is a good start.
I ate too much. | A short walk will do you good.
I need a holiday. | You have certainly earned one.
Time goes by so quickly. | It does, above all on good days.
I cannot decide what to wear. | Choose what makes you feel well.
The children are asleep at last. | Then enjoy the quiet.
The kettle is on. | A good moment for a break.
Someone is at the door. | I will wait here.
I am back. | Welcome back!
One moment, please. | Take your time.
That was funny. | I am glad that you liked it.
You are very kind. | Thank you, so are you.
That is all for now. | All right. I am here when you need me.
Never mind. | That is fine.
What colour is the sky? | On a clear day the sky is blue.
How many days has a week? | A week has seven days.
How many legs has a spider? | A spider has eight legs.
What is the capital of France? | The capital of France is Paris.
What is the capital of Japan? | The capital of Japan is Tokyo.
Which animal gives us wool? | Sheep give us wool.
What do bees make? | Bees make honey.
Which season comes after winter? | Spring comes after winter.
What is the opposite of hot? | The opposite of hot is cold.
What is the opposite of early? | The opposite of early is late.
How do you spell "cat"? | C, A, T.
What melts in the sun? | Snow and ice melt in the sun.
Where do fish live? | Fish live in water.
What do we use to write? | A pen or a pencil.
Is the moon made of cheese? | No, it is made of rock.
"""

_PLAIN_UNKNOWN = "I do not know, you have not told me."  # no answer about a fact begins with "I"
_SMALL_UNKNOWN = ("You have not told me that.", _PLAIN_UNKNOWN)
_FULL_UNKNOWN = (
    *_SMALL_UNKNOWN,
    "You have not told me yet.",
    "I don't know, you never told me.",
    "I am afraid that I do not know. You have not mentioned it.",
    "You haven't told me that.",
    "I cannot say, you never mentioned it.",
    "I have no idea, you did not tell me.",
)


@cache
def chatter(variety: Variety) -> tuple[Wording, ...]:
    """Return turns that tell no fact and need no memory."""
    return wordings(_SMALL) if variety == "small" else (*wordings(_SMALL + _FULL), *_sums())


def unknown_answers(variety: Variety, wording: AnswerWording = "varied") -> tuple[str, ...]:
    """Return answers to a question about a fact that was never told."""
    if wording == "plain":
        return (_PLAIN_UNKNOWN,)
    return _SMALL_UNKNOWN if variety == "small" else _FULL_UNKNOWN


def wordings(lines: str) -> tuple[Wording, ...]:
    """Return turns from lines `query | answer`."""
    return tuple(Wording(*line.split(" | ")) for line in lines.strip().splitlines() if line)


def _sums() -> list[Wording]:
    """Return sums to solve, few enough that most small talk is something else."""
    return [
        Wording(f"What is {first} plus {second}?", f"{first} plus {second} is {first + second}.")
        for first in range(2, 10)
        for second in range(first, 10)
    ]
