"""Questions and requests that need no memory: a language model knows the answer, or invents it."""

from collections.abc import Sequence
from functools import cache

_ASKED = {
    "What is the capital of {}?": (
        "Spain, Greece, Norway, Egypt, Canada, Brazil, Poland, Kenya, Turkey, India, Portugal, Chile, Austria, Cuba"
    ),
    "What is the opposite of {}?": (
        "big, fast, light, happy, empty, old, strong, loud, near, dry, full, soft, rich, high"
    ),
    "How many legs does a {} have?": "dog, bird, bee, horse, crab, cat, ladybird, chicken",
    "What is {}?": (
        "7 times 6, 12 minus 5, 3 times 9, 20 divided by 4, 11 plus 8, 15 minus 9, 4 times 4, gravity, a verb, "
        "an adjective, photosynthesis, a triangle, a desert, a planet, oxygen, a poem, democracy, a volcano, jazz"
    ),
    "What is {} made of?": "bread, glass, paper, cheese, steel, a candle, a cloud, concrete, chocolate, a pencil",
    "Explain what {} is.": (
        "a museum, a bank, a hospital, a bridge, a dictionary, an island, a market, a garden, a calendar"
    ),
    "Write a sentence about {}.": (
        "the forest, a train, the night, a kitchen, winter, the moon, a river, autumn, a storm"
    ),
    "Tell me a short story about {}.": (
        "a bear, a lost key, two friends, an old clock, a king, a little boat, a dragon"
    ),
    "Give me a tip for {}.": (
        "saving money, learning a language, staying healthy, cooking rice, writing a letter, growing tomatoes, "
        "staying calm, studying"
    ),
    "How do I {}?": (
        "make tea, clean a window, plant a tree, bake bread, tie a knot, draw a cat, wash wool, remove a stain, "
        "make pancakes, change a light bulb"
    ),
    "Why {}?": (
        "is the sea salty, do leaves fall, do we sleep, is grass green, do birds migrate, is snow white, do we dream, "
        "is fire hot, do cats purr, do we need water"
    ),
    "Who {}?": (
        "wrote Hamlet, painted the Mona Lisa, invented the telephone, discovered penicillin, wrote Don Quixote, "
        "was Napoleon, was Cleopatra, invented the light bulb, was Mozart, composed the Ninth Symphony"
    ),
    "Name {}.": (
        "four seasons, two rivers, a famous painter, three vegetables, a kind of bird, two metals, five animals, "
        "a famous composer, three flowers, a musical instrument, two continents, a famous book"
    ),
    "List {}.": (
        "three kinds of tree, two sports, four tools, three drinks, two planets, three insects, two languages"
    ),
    "Translate '{}' into French.": "good night, thank you, a red house, I am hungry, how are you, see you tomorrow",
    "Translate '{}' into Spanish.": (
        "good morning, please, the blue door, I am tired, where is the station, good luck"
    ),
    "What is the {}?": (
        "largest continent, longest river, highest mountain, smallest planet, fastest animal, coldest place on Earth, "
        "boiling point of water, speed of light, biggest desert, deepest lake, largest animal"
    ),
    "What do {}?": (
        "cows eat, doctors do, fish breathe, frogs eat, bees collect, pilots do, rabbits eat, judges do, babies need"
    ),
    "Where {}?": (
        "do penguins live, does coffee grow, is the Sahara, do camels live, is Mount Everest, does rain come from"
    ),
    "When {}?": (
        "does winter begin, do flowers bloom, was the moon landing, does the sun rise, did the First World War end"
    ),
    "Write {}.": (
        "a short poem about rain, a polite refusal, a birthday wish, a recipe for soup, a slogan for a bakery, "
        "an invitation to dinner, a two-line rhyme, a thank-you note, a title for a novel"
    ),
    "How {}?": (
        "does a plane fly, long is a year, far away is the sun, do magnets work, is cheese made, do vaccines work, "
        "many continents are there, many hours are in a day, does a clock work, is paper made, old is the Earth"
    ),
    "Which {}?": (
        "planet is the largest, animal is the tallest, month has the fewest days, colour do red and blue make, "
        "metal is liquid, country has the most people, bird cannot fly, fruit is yellow"
    ),
    "Can you {}?": (
        "explain rainbows to a child, count to five, recommend a hobby, describe a sunset, spell the word necessary, "
        "suggest a name for a shop, compare cats and dogs"
    ),
}


@cache
def general_questions() -> Sequence[str]:
    """Return about two hundred questions and requests, in an order that mixes their forms."""
    forms = [[form.format(part.strip()) for part in parts.split(",")] for form, parts in _ASKED.items()]
    longest = max(map(len, forms))
    return tuple(form[number] for number in range(longest) for form in forms if number < len(form))
