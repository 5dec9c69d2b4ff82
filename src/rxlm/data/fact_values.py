"""Values of the facts in generated dialogues of full variety, separated by commas."""

WOMEN = (
    "Ada, Alice, Anna, Carla, Chloe, Clara, Diana, Dora, Edith, Emma, Eva, Fiona, Grace, Hanna, Helen, Ida, "
    "Irene, Jane, Julia, Kate, Laura, Lina, Lucy, Maria, Mia, Nina, Nora, Rita, Rosa, Ruth, Sara, Sofia, Stella, "
    "Tara"
)
MEN = (
    "Adam, Amir, Arthur, Ben, Bruno, Carlos, Daniel, David, Elias, Erik, Felix, Finn, George, Harry, Hugo, "
    "Isaac, Jack, Jonas, Karim, Leo, Louis, Marco, Martin, Noah, Oliver, Oscar, Paul, Peter, Robert, Samuel, "
    "Simon, Theo, Thomas, Victor, Walter, Yusuf"
)
NAMES = f"{WOMEN}, {MEN}"
PETS = (
    "Bandit, Bella, Biscuit, Buddy, Cleo, Coco, Daisy, Dusty, Fido, Fluffy, Ginger, Hazel, Honey, Jasper, Loki, Lucky, "
    "Luna, Maple, Merlin, Milo, Misty, Molly, Mocha, Muffin, Nala, Olive, Oreo, Otto, Patch, Pebbles, Pepper, Pip, "
    "Rex, Rocky, Rusty, Sammy, Shadow, Simba, Smokey, Sparky, Teddy, Tiger, Toby, Whiskers, Ziggy"
)
CITIES = (
    "Amsterdam, Athens, Barcelona, Basel, Belgrade, Bergen, Berlin, Bologna, Boston, Bristol, Brussels, Budapest, "
    "Cairo, Cape Town, Chicago, Copenhagen, Delhi, Dublin, Edinburgh, Florence, Geneva, Glasgow, Hamburg, Helsinki, "
    "Istanbul, Kyoto, Lima, Lisbon, Liverpool, London, Lyon, Madrid, Malmo, Manchester, Marseille, Milan, Montreal, "
    "Munich, Nairobi, Naples, New York, Osaka, Oslo, Oxford, Paris, Porto, Prague, Quebec, Riga, Rome, Seattle, Seoul, "
    "Seville, Sofia, Stockholm, Sydney, Tallinn, Tokyo, Toronto, Turin, Venice, Vienna, Vilnius, Warsaw, York, Zurich"
)
COUNTRIES = (
    "Albania, Argentina, Austria, Belgium, Brazil, Bulgaria, Canada, Chile, Croatia, Cuba, Denmark, Egypt, Estonia, "
    "Finland, France, Germany, Greece, Hungary, Iceland, India, Ireland, Italy, Japan, Kenya, Latvia, Malta, Mexico, "
    "Morocco, Nepal, Norway, Peru, Poland, Portugal, Romania, Scotland, Slovenia, Spain, Sweden, Thailand, Tunisia, "
    "Turkey, Vietnam"
)
JOBS = (
    "accountant, actor, architect, baker, barber, biologist, bus driver, butcher, carpenter, chef, chemist, cleaner, "
    "dancer, dentist, designer, doctor, editor, electrician, engineer, farmer, firefighter, fisherman, florist, "
    "gardener, geologist, hairdresser, journalist, judge, lawyer, librarian, mechanic, musician, nurse, optician, "
    "painter, pharmacist, photographer, pilot, plumber, police officer, postman, programmer, receptionist, sailor, "
    "scientist, secretary, singer, surgeon, tailor, teacher, translator, vet, waiter, writer"
)
COLOURS = (
    "beige, black, blue, brown, crimson, cream, dark blue, dark green, gold, green, grey, indigo, ivory, light blue, "
    "lilac, magenta, maroon, mint green, navy, orange, pink, plum, purple, red, scarlet, silver, turquoise, violet, "
    "white, yellow"
)
FOODS = (
    "apple pie, bean soup, beef stew, bread and butter, cheese on toast, chicken curry, chicken soup, chilli, "
    "couscous, fish and chips, fish pie, fried rice, goulash, grilled fish, lasagna, lentil soup, macaroni cheese, "
    "moussaka, mushroom soup, onion soup, paella, pancakes with jam, pasta, pizza, porridge, potato salad, ramen, "
    "ratatouille, risotto, roast beef, roast chicken, roast lamb, shepherd's pie, spaghetti, steak, sushi, "
    "tomato soup, vegetable curry"
)
DRINKS = (
    "apple juice, black coffee, black tea, cocoa, coffee with milk, cold milk, espresso, fizzy water, ginger tea, "
    "grape juice, green tea, hot chocolate, iced tea, lemonade, mint tea, orange juice, peach juice, peppermint tea, "
    "plain water, tea with milk, tomato juice, white tea"
)
FRUITS = (
    "apples, apricots, bananas, blackberries, blueberries, cherries, figs, gooseberries, grapes, kiwis, lemons, "
    "mangoes, melons, nectarines, oranges, peaches, pears, pineapples, plums, raspberries, strawberries"
)
FLOWERS = (
    "bluebells, buttercups, carnations, crocuses, daffodils, dahlias, daisies, irises, jasmine, lavender, lilies, "
    "marigolds, orchids, pansies, peonies, poppies, primroses, roses, snowdrops, sunflowers, tulips, violets"
)
ANIMALS = (
    "badgers, bears, beavers, camels, cats, cheetahs, dolphins, eagles, elephants, foxes, giraffes, hedgehogs, horses, "
    "kangaroos, koalas, lions, monkeys, otters, owls, pandas, parrots, penguins, rabbits, seals, squirrels, tigers, "
    "turtles, whales, wolves, zebras"
)
HOBBIES = (
    "baking, birdwatching, bowling, boxing, camping, carving wood, climbing, cooking, cycling, dancing, diving, "
    "drawing, fencing, fishing, gardening, hiking, horse riding, jogging, juggling, kayaking, knitting, making films, "
    "painting, playing chess, playing golf, playing tennis, reading, rowing, sailing, sewing, singing, "
    "skating, skiing, surfing, swimming, taking photos, writing poems"
)
OUTINGS = (
    "bowling, camping, climbing, cycling, dancing, diving, fishing, hiking, horse riding, jogging, kayaking, rowing, "
    "running, sailing, shopping, sightseeing, skating, skiing, sledging, surfing, swimming, walking in the woods"
)
INSTRUMENTS = (
    "accordion, banjo, bassoon, cello, clarinet, cornet, double bass, drums, fiddle, flute, guitar, harp, horn, lute, "
    "mandolin, oboe, organ, piano, recorder, saxophone, trombone, trumpet, tuba, ukulele, viola, violin, xylophone"
)
LANGUAGES = (
    "Arabic, Basque, Bengali, Catalan, Chinese, Czech, Danish, Dutch, Estonian, Finnish, French, German, Greek, "
    "Hebrew, Hindi, Hungarian, Icelandic, Irish, Italian, Japanese, Korean, Latin, Norwegian, Persian, Polish, "
    "Portuguese, Russian, Spanish, Swahili, Swedish, Thai, Turkish, Ukrainian, Vietnamese, Welsh"
)
SUBJECTS = (
    "algebra, art, astronomy, biology, botany, chemistry, drama, economics, ethics, geography, geology, geometry, "
    "history, law, literature, music, philosophy, physics, poetry, politics, psychology, sociology, statistics"
)
MONTHS = "January, February, March, April, May, June, July, August, September, October, November, December"
PLACES = (
    "behind the clock, behind the curtain, behind the door, by the window, in my coat, in my desk, in my old bag, "
    "in the attic, in the basket, in the bathroom, in the blue box, in the car, in the cellar, in the cupboard, "
    "in the drawer, in the garage, in the hall, in the kitchen, in the shed, in the suitcase, next to the lamp, "
    "next to the radio, on the bench, on the bookshelf, on the fridge, on the kitchen table, on the piano, "
    "on the sofa, on the stairs, on the top shelf, under the bed, under the chair, under the doormat, "
    "under the newspaper"
)
TIMES = (
    "five past eight, half past eight, half past nine, half past seven, half past six, half past ten, noon, "
    "quarter past eight, quarter past nine, quarter past seven, quarter past six, quarter to eight, quarter to nine, "
    "quarter to seven, ten past eight, ten past nine, ten to eight, ten to nine, twenty past eight, twenty past nine, "
    "twenty to eight, twenty to nine"
)
PRESENTS = (
    "a board game, a book, a bracelet, a camera, a chess set, a cookbook, a fountain pen, a jigsaw puzzle, a kite, "
    "a lamp, a leather belt, a mirror, a music box, a necklace, a painting, a plant, a radio, a ring, a scarf, "
    "a silk shirt, a teapot, a telescope, a toy train, a vase, a warm jumper, a watch, an umbrella"
)
AGES = ", ".join(map(str, range(31, 79)))
NUMBERS = ", ".join(map(str, range(11, 99)))
