"""Questions about the world with their answers: what a model knows without having been told.

Without them a model that learns to say what it was never told says so of the capital of France, too.
"""

from functools import cache

from rxlm.data.fact_kinds import Wording
from rxlm.data.small_talk import wordings

_QUESTIONS = """
What is the capital of Norway? | The capital of Norway is Oslo.
What is the capital of Germany? | The capital of Germany is Berlin.
What is the capital of Portugal? | The capital of Portugal is Lisbon.
What is the capital of Greece? | The capital of Greece is Athens.
What is the capital of Austria? | The capital of Austria is Vienna.
What is the capital of Poland? | The capital of Poland is Warsaw.
What is the capital of Canada? | The capital of Canada is Ottawa.
What is the capital of Australia? | The capital of Australia is Canberra.
What is the capital of India? | The capital of India is New Delhi.
Tell me, what is the capital of Hungary? | The capital of Hungary is Budapest.
Do you know the capital of Ireland? | Yes, the capital of Ireland is Dublin.
Do you know the capital of Argentina? | Yes, the capital of Argentina is Buenos Aires.
In which country is Tokyo? | Tokyo is in Japan.
In which country is Venice? | Venice is in Italy.
In which country is the Great Wall? | The Great Wall is in China.
In which country is the Grand Canyon? | The Grand Canyon is in the United States.
On which continent is Canada? | Canada is in North America.
On which continent is Japan? | Japan is in Asia.
On which continent is Spain? | Spain is in Europe.
On which continent is Nigeria? | Nigeria is in Africa.
Which language is spoken in France? | French is spoken in France.
Which language is spoken in Italy? | Italian is spoken in Italy.
Which language do people speak in Japan? | People in Japan speak Japanese.
Which language do people speak in Mexico? | People in Mexico speak Spanish.
What is the smallest continent? | The smallest continent is Australia.
What is the largest continent? | The largest continent is Asia.
What is the largest desert of Africa? | The largest desert of Africa is the Sahara.
What is the longest river of South America? | The longest river of South America is the Amazon.
Which river flows through London? | The Thames flows through London.
Which river flows through Paris? | The Seine flows through Paris.
Which ocean is between Europe and America? | The Atlantic Ocean is between Europe and America.
Who wrote Hamlet? | Hamlet was written by William Shakespeare.
Who wrote Oliver Twist? | Oliver Twist was written by Charles Dickens.
Who wrote Pride and Prejudice? | Pride and Prejudice was written by Jane Austen.
Who wrote Alice in Wonderland? | Alice in Wonderland was written by Lewis Carroll.
Who invented the telephone? | The telephone was invented by Alexander Graham Bell.
Who invented the light bulb? | The light bulb was invented by Thomas Edison.
Who painted the Starry Night? | The Starry Night was painted by Vincent van Gogh.
Who composed the Magic Flute? | The Magic Flute was composed by Mozart.
Who discovered penicillin? | Penicillin was discovered by Alexander Fleming.
Who sailed to America in 1492? | Christopher Columbus sailed to America in 1492.
Who had the idea of evolution? | Charles Darwin had the idea of evolution.
Which planet do we live on? | We live on the Earth.
Which planet has large rings? | Saturn has large rings.
What goes around the Earth? | The moon goes around the Earth.
What does the Earth go around? | The Earth goes around the sun.
What is the sun? | The sun is a star.
How many planets are in the solar system? | There are eight planets in the solar system.
How long does the Earth take to go around the sun? | The Earth takes a year to go around the sun.
How many seconds has a minute? | A minute has sixty seconds.
How many weeks has a year? | A year has fifty-two weeks.
How many years has a century? | A century has a hundred years.
How many letters has the English alphabet? | The English alphabet has twenty-six letters.
How many legs has a dog? | A dog has four legs.
How many legs has a bird? | A bird has two legs.
How many wheels has a bicycle? | A bicycle has two wheels.
How many sides has a square? | A square has four sides.
How many centimetres are in a metre? | There are a hundred centimetres in a metre.
How many grams are in a kilogram? | There are a thousand grams in a kilogram.
How many fingers has a hand? | A hand has five fingers.
How many strings has a violin? | A violin has four strings.
How many players has a football team? | A football team has eleven players.
Which month comes after June? | July comes after June.
Which day comes before Friday? | Thursday comes before Friday.
Which month is the first of the year? | January is the first month of the year.
Which season is the coldest? | Winter is the coldest season.
At what temperature does water freeze? | Water freezes at zero degrees Celsius.
What is steam? | Steam is water as a gas.
What is the chemical symbol of gold? | The chemical symbol of gold is Au.
What is the chemical symbol of oxygen? | The chemical symbol of oxygen is O.
Which metal attracts magnets? | Iron attracts magnets.
What is glass made of? | Glass is made of sand.
What is paper made of? | Paper is made of wood.
What is bread made of? | Bread is made of flour and water.
What is cheese made of? | Cheese is made of milk.
What do hens lay? | Hens lay eggs.
What do cats like to catch? | Cats like to catch mice.
What do cows eat? | Cows eat grass.
What do pandas eat? | Pandas eat bamboo.
What do caterpillars turn into? | Caterpillars turn into butterflies.
What is a young dog called? | A young dog is called a puppy.
What is a young cat called? | A young cat is called a kitten.
Which animal has a trunk? | The elephant has a trunk.
Which animal has a very long neck? | The giraffe has a very long neck.
Which is the fastest animal on land? | The cheetah is the fastest animal on land.
Which is the largest animal? | The blue whale is the largest animal.
Which bird cannot fly but swims well? | The penguin cannot fly but swims well.
Is a whale a fish? | No, a whale is a mammal.
Is a tomato a fruit? | Yes, a tomato is a fruit.
Which organ do we breathe with? | We breathe with the lungs.
Which organ do we think with? | We think with the brain.
What do we see with? | We see with our eyes.
What do we smell with? | We smell with our nose.
What do dentists look after? | Dentists look after teeth.
What does a baker make? | A baker makes bread.
What does a pilot do? | A pilot flies aeroplanes.
Where do pupils learn? | Pupils learn at school.
Where can one borrow books? | Books can be borrowed at a library.
What is the opposite of wet? | The opposite of wet is dry.
What is the opposite of old? | The opposite of old is young or new.
What is the opposite of slow? | The opposite of slow is fast.
What is the opposite of empty? | The opposite of empty is full.
What is the opposite of left? | The opposite of left is right.
What is the plural of mouse? | The plural of mouse is mice.
What is the plural of child? | The plural of child is children.
What is the past tense of go? | The past tense of go is went.
What is another word for happy? | Another word for happy is glad.
Which colour do you get from red and yellow? | Red and yellow give orange.
Which colour do you get from red and white? | Red and white give pink.
What colour is grass? | Grass is green.
What colour is a ripe banana? | A ripe banana is yellow.
What colour is snow? | Snow is white.
Which fruit is used for cider? | Cider is made of apples.
Which drink is made of leaves and hot water? | Tea is made of leaves and hot water.
What is needed to make an omelette? | An omelette needs eggs.
What do people wear on their feet? | People wear shoes and socks on their feet.
What tells us the time? | A clock tells us the time.
What keeps the rain off? | An umbrella keeps the rain off.
What do you cut paper with? | Paper is cut with scissors.
What is money kept in? | Money is kept in a purse or in a bank.
Which instrument has black and white keys? | The piano has black and white keys.
Which game is played on sixty-four squares? | Chess is played on sixty-four squares.
How often are the Olympic Games held? | The Olympic Games are held every four years.
What is ten times ten? | Ten times ten is a hundred.
What is half of fifty? | Half of fifty is twenty-five.
What is twice eight? | Twice eight is sixteen.
Is seven an even number? | No, seven is an odd number.
"""


@cache
def world_questions() -> tuple[Wording, ...]:
    """Return questions about the world with their answers, in plain words; no answer begins with the word I."""
    return wordings(_QUESTIONS)
