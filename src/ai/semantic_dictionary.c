/* The word lists behind canonical prompts and guards, and the table they become.
 *
 * Lists are written as plain text, one meaning each; a word may be on several. The table is built once, by whoever asks first, and
 * read without locks afterwards. It has a fixed size: CHECK() says when the lists outgrow it. */
#include "ai/semantic_dictionary.h"

#include "base/check.h"
#include "base/key.h"

#include <pthread.h>

#define SLOTS 4096u

static const struct {
    uint32_t classes;
    const char *words;
} lists[] = {
    { W_ENGLISH | W_FUNCTION,
      "the is what how of why who which where when my your you do does are and with for this that it "
      "these those they we should would could can has have did was were whose there" },
    { W_ENGLISH, "write explain give show tell please help need want make" },
    { W_FUNCTION,
      "a an i am be been being to in on at by from as or but if then than so will shall may might must me him her "
      "us them its his our their he she about into onto had having done doing not whom while because also just "
      "some any get got up out off over under" },
    { W_QUESTION,
      "what how why who which where when whose whom is are am was were do does did has have can could should would "
      "will may might shall" },
    { W_FORM,
      "translate translation translated translating spell spelled spelling spelt pronounce pronounced pronunciation "
      "grammar grammatical grammatically punctuation punctuate comma commas apostrophe apostrophes period hyphen "
      "capitalize capitalise capitalized capitalised capitalization capitalisation uppercase lowercase "
      "upper-case lower-case caps casing rewrite reword rephrase paraphrase proofread correct correction "
      "correctly summarize summarise shorten simplify edit sentence sentences wording phrase phrases "
      "syllable syllables vowel vowels consonant consonants say says saying said repeat typo typos contraction "
      "contractions synonym synonyms antonym antonyms anagram anagrams palindrome palindromes rhyme rhymes rhyming "
      "polite politely politeness formal informal tone etymology idiom acronym abbreviation plural singular reply "
      "respond lyrics lyric song titled mean define definition transcribe transliterate alphabet" },
    { W_FORM_CODE,
      "word words letter letters character characters article articles reverse reversed count text string strings "
      "quote quotes prefix suffix tokenize tokens echo print answer complete continue autocomplete ascii unicode "
      "encode decode encoded decoded hash sha256 md5 base64 regex title called named begins ends "
      "improve expression alphabetical alphabetically" },
    { W_PROGRAM,
      "python java javascript typescript ruby perl rust golang kotlin scala haskell php lua julia bash powershell sql "
      "function script program method class array variable" },
    { W_LIGHT,
      "explain tell give show want way ways step steps possible tip tips method meaning mean go use used using work works working process "
      "current please thanks hello hey hi kindly thank pls like number information exactly actually really simply basically "
      "currently essentially best look happen happens able" },
    { W_NAME,
      "sin cos tan rock polish turkey may march august nice reading us will mark bill rose june april hope grace jack bob frank art pat "
      "sue drew rob nick dick ray dawn joy faith penny ruby amber ivy lily daisy iris jasmine violet olive pearl ginger "
      "basil chase chuck cliff dale dean earl gene glen grant guy hank harry heath hunter josh lance miles norm pierce "
      "rich rusty skip stone sandy stew victor wade ward warren woody young king cook baker brown black white green "
      "bush ford gates jobs musk bell trump wolf fox bond hill house wood woods china chile georgia jersey jordan chad "
      "mali guinea cork bath mobile phoenix orange buffalo apple amazon windows word excel access outlook teams slack "
      "zoom shell target gap oracle visa tide galaxy echo meta threads discord signal edge chrome safari opera go rust "
      "swift scratch dart elm spring spark storm flink hive ant maven bower puppet chef salt vim mercury mars earth "
      "saturn venus catholic finish job august mike will-power victoria crystal charity destiny prince queen bishop "
      "fisher hunter mason parker porter potter smith taylor turner walker weaver wells west north south east long "
      "short strong sharp swift blue gray grey bird fish swan lamb drake finch martin robin jay kitty tiger lion bear "
      "bull mustang jaguar beetle puma fiat seat mini smart ram dodge pilot focus fusion escape explorer compass "
      "liberty patriot journey charger challenger titan frontier rogue accord civic insight passport legend integra "
      "unity unreal steam switch wii nest ring alexa cortana siri bard gemini claude copilot llama mistral falcon "
      "phi titan grok bing ask yelp uber lyft square stripe intel dell razer brother canon cannon express react vue "
      "angular ember next nuxt gin echo fiber flask express rails play lift akka phoenix crystal nim julia scheme "
      "lisp basic ada d r c haskell logo small talk simula turing lovelace church curry pascal newton ampere volt watt "
      "joule kelvin hertz celsius sie ihr ihre ihnen ihren ihrem ihrer god lord bible labor labour state congress "
      "parliament republican democrat conservative liberal independent democratic federal reserve treasury capitol "
      "internet web cloud net sun moon pope president pages numbers keynote notes photos music mail maps messages "
      "contacts reminders calendar finder preview terminal console paint calculator drive docs sheets slides forms "
      "java classroom meet hangouts duo keep keeper chat bolt render vercel neon turso fly heroku ghost wordpress medium "
      "hamlet emma carrie it her up soul coco cars frozen brave tangled inside-out alien aliens predator matrix titanic "
      "gladiator heat seven psycho vertigo jaws rocky friends lost scrubs house suits office wire crown bones angel "
      "genesis exodus numbers judges kings proverbs acts romans queen prince madonna cream kiss boston chicago kansas "
      "asia europe america journey train yes rush police doors eagles bee beach boys cars cure clash smiths who band" },
    { W_ACRONYM,
      "eta pi mu nu phi rho chi psi tau xi beta delta gamma us it who is or in me hi ok pa ma la id ram rom sat act cat pet gap care pin sim rice smart start mad ice do led "
      "aim bit dim now all stem wasp where aids and not no as at so am pm an he be to by if on up we my go us art arm "
      "bat bar bus cad cam can cap case cast cob cod cop cost cot cow dam den dot ear eat end era fan far fat fed fig "
      "fin fit fix for fun gas gem get god had has her him his hot how ion its kit law let lid lie lit log lot map mat "
      "may mid mod nap net new nut oar odd off oil old one out own pan pat pay per pip pit pop pot put rag ran rap raw "
      "red rip rod row run sad sag sap saw say see set she sin sip sit six ski sly sob sod son sum sun tan tap tar tea "
      "tee ten tie tin tip ton too top tow toy try two use van war was way web wed wet why win won yes you zip snap "
      "swift abs sars ace acid ant ape base bash bird bliss bold camp chip clip cod core crud dare dash dice doe eager "
      "fast fear flip foil gate gist gnu hack hard hasp head hero home hope host hub jade java joint kiss lamb lamp "
      "lance lap lisp mace mars mash mean mesh mist moo nasa nice oasis pack pal pass peak pest pop post pup rat rave "
      "rest risk safe sage sail salt sand sane sap scar scum seal self serf shed ship slam soap solid spa span spice "
      "spin spot star step stop swat swot tact tag tar team time tops trip urge vast wan warp wave wish zeus none null "
      "true false" },
    { W_UNIT_CASE,
      "mb gb kb tb pb kw mw mv ma pa ml mm mg mj mbps gbps kbps mbit gbit mhz ghz nm ns ms mol ev kev mev gev db ph mpa "
      "kpa gpa cal kcal ah mah kwh mwh gwh wh b g m s k h j l n t v w a c f" },
    { W_KEEP_THE,
      "good number who other others most least more less only few little one ones same then than better worse best worst and or of to "
      "is are was were a an the all both half dead poor rich sick blind deaf young old following above below next last "
      "previous former latter first second third two three four five six seven eight nine ten hundred thousand million "
      "whole entire very public press law force matrix cloud web rock city church state" },
    { W_VAGUE_A, "few little number lot while bit good great couple some any many much" },
    { W_NEGATION,
      "not no never without none nothing neither nor nobody nowhere cannot hardly barely unable except excluding fail "
      "fails failed failing lack lacks lacking refuse refuses avoid avoids exclude unless non isn't aren't wasn't weren't "
      "don't doesn't didn't won't wouldn't can't couldn't shouldn't mustn't haven't hasn't hadn't needn't mightn't ain't shan't "
      "dont doesnt didnt isnt wasnt arent couldnt shouldnt wouldnt havent hasnt cant wont instead" },
    { W_BARE_NT, "dont doesnt didnt isnt wasnt arent werent couldnt shouldnt wouldnt havent hasnt hadnt" },
    { W_POSSESSIVE, "my your his her their our its mine yours theirs ours whose someone's somebody's everyone's" },
    { W_PRONOUN, "it i you he she they we the this that there these those my your his her" },
    { W_PERSON,
      "i me you he she they we us them him her myself yourself himself herself themselves ourselves someone" },
    { W_QUANTIFIER,
      "little all every each any some both most only single first last always sometimes never once twice many few several "
      "multiple each everything anything something everyone anyone someone half whole entire another other next "
      "previous oldest newest latest earliest again largest smallest same different" },
    { W_ENTITY,
      "january february april june july september october november december monday tuesday wednesday thursday friday "
      "saturday sunday jan feb apr jun jul aug sep sept oct nov dec mon tue wed thu fri march august may today tomorrow yesterday "
      "tonight morning evening afternoon night weekly daily monthly yearly hourly annual annually spring summer autumn "
      "fall winter english french german spanish italian portuguese dutch swedish norwegian danish finnish polish russian "
      "ukrainian czech slovak hungarian romanian bulgarian greek turkish arabic hebrew persian hindi bengali urdu tamil "
      "chinese mandarin cantonese japanese korean vietnamese thai indonesian malay latin swahili usd eur gbp jpy chf cny "
      "inr dollar dollars euro euros pound pounds yen yuan rupee rupees franc francs peso pesos bitcoin ethereum "
      "celsius fahrenheit kelvin python java javascript typescript ruby perl rust golang go kotlin swift scala haskell "
      "php lua julia fortran cobol pascal clojure erlang elixir ocaml zig dart matlab bash powershell sql mysql "
      "postgresql postgres sqlite mongodb redis oracle react angular vue svelte django flask rails spring node deno "
      "linux windows macos mac android ios ubuntu debian fedora iphone ipad pixel samsung git github gitlab docker "
      "kubernetes podman aws azure gcp terraform ansible http https tcp udp ipv4 ipv6 dns tls ssl ssh ftp smtp imap "
      "json xml yaml csv toml html css rest graphql grpc word excel powerpoint outlook gmail google apple microsoft "
      "amazon facebook twitter instagram netflix spotify france germany spain italy portugal netherlands belgium sweden "
      "norway denmark finland poland russia ukraine austria switzerland greece turkey egypt israel india china japan "
      "korea vietnam thailand indonesia malaysia australia canada mexico brazil argentina chile peru colombia england "
      "scotland wales ireland britain uk usa america europe asia africa paris london berlin madrid rome vienna lisbon "
      "amsterdam brussels stockholm oslo copenhagen helsinki warsaw moscow kyiv prague budapest athens istanbul cairo "
      "tokyo beijing shanghai seoul delhi mumbai sydney melbourne toronto chicago boston seattle texas california "
      "florida york hydrogen oxygen nitrogen carbon iron gold silver copper mercury venus earth mars jupiter saturn "
      "uranus neptune pluto red green blue yellow black white orange purple pink brown cat cats dog dogs tcp/ip visa "
      "mastercard paypal chrome firefox safari edge vim emacs vscode nginx apache" },
    { W_GERMAN,
      "der die das ist und wie was wer wo warum ich nicht ein eine einen mein für mit von zu kann auf den dem sind" },
    { W_FRENCH,
      "le la les est et comment quoi qui où pourquoi je ne pas un une mon ma pour avec de des du que quelle quel sur" },
    { W_SPANISH,
      "el la los las es y cómo como qué que quién dónde yo no un una mi para con de del en por cuál está puedo" },
    { W_ITALIAN,
      "il la lo gli è e come cosa che chi dove perché io non un una mio per con di del della sono quale posso" },
    { W_PORTUGUESE, "o a os as é e como que quem onde eu não um uma meu minha para com de do da em qual são posso" },
    { W_DUTCH, "de het een is en hoe wat wie waar waarom ik niet mijn voor met van kan op zijn naar te" },
    { W_DIRECTION, "to from than before after over with into by between under against through since until for about" },
    { W_BRAND,
      "javascript typescript github gitlab postgresql mysql sqlite mongodb youtube iphone ipad macos ios paypal linkedin "
      "whatsapp openai chatgpt powershell graphql ebay tiktok wordpress vscode powerpoint onedrive dropbox icloud "
      "latex nodejs numpy tensorflow pytorch" },
};

/* Units of one meaning each; the first names it. */
static const char *const units[] = {
    "km kilometer kilometers kilometre kilometres kms",
    "meter meters metre metres",
    "cm centimeter centimeters centimetre centimetres",
    "millimeter millimeters millimetre millimetres",
    "mile miles mi",
    "yard yards yd",
    "foot feet ft",
    "inch inches",
    "kg kilogram kilograms kilo kilos kgs",
    "gram grams",
    "milligram milligrams",
    "tonne tonnes ton tons",
    "lb lbs",
    "ounce ounces oz",
    "liter liters litre litres",
    "milliliter milliliters millilitre millilitres",
    "gallon gallons gal",
    "cup cups",
    "pint pints",
    "tablespoon tablespoons tbsp",
    "teaspoon teaspoons tsp",
    "sec secs seconds",
    "minute minutes min mins",
    "hour hours hr hrs",
    "day days",
    "week weeks",
    "month months",
    "year years yr yrs",
    "decade decades",
    "century centuries",
    "millisecond milliseconds",
    "microsecond microseconds",
    "nanosecond nanoseconds",
    "byte bytes",
    "bit bits",
    "kilobyte kilobytes",
    "megabyte megabytes",
    "gigabyte gigabytes",
    "terabyte terabytes",
    "percent %",
    "mph",
    "kmh km/h kph",
    "knot knots",
    "degree degrees °",
    "acre acres",
    "hectare hectares",
    "volt volts",
    "amp amps",
    "watt watts",
    "joule joules",
    "calorie calories",
    "newton newtons",
    "bar",
    "psi",
    "dozen",
    "hundred",
    "thousand",
    "million",
    "billion",
    "trillion",
    "square",
    "cubic",
    "usd dollar dollars",
    "eur euro euros",
    "gbp pound pounds",
    "yen jpy",
    "times",
    "pixels px",
    "pages",
    "words",
    "°c celsius",
    "°f fahrenheit",
    "am",
    "pm",
    "rpm",
    "fps",
    "dpi",
};

/* Taken for one another by the content guard, which still asks for a near vector. */
static const char *const synonyms[] = {
    "delete remove erase",
    "change update modify edit",
    "fix repair solve",
    "buy purchase",
    "big large",
    "create make build setup",
    "picture photo image",
    "error problem issue",
    "movie film",
    "car automobile",
    "start begin",
    "quick fast quickly",
    "forgot forget forgotten",
    "gift present",
    "apartment flat",
    "write written wrote",
    "speak spoken spoke",
    "improve enhance",
    "show display",
    "find locate",
    "contact reach",
    "explain describe",
    "city town",
    "job occupation",
    "doctor physician",
    "close shut",
    "begin commence",
    "location place",
    "company firm",
    "bug defect",
    "author writer",
    "price cost",
    "holiday vacation",
    "illness disease",
    "kid child children",
    "phone telephone",
    "tv television",
    "bike bicycle",
    "merge combine",
    "wrong incorrect",
};

static const char *const numbers[] = {
    "zero",     "one",     "two",     "three",     "four",     "five",     "six",
    "seven",    "eight",   "nine",    "ten",       "eleven",   "twelve",   "thirteen",
    "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen", "twenty",
};

/* "~": a weak pair, of words so common that only meeting their opposite counts. Synonyms of one side stand together. */
static const char *const opposites[] = {
    "enable activate / disable deactivate",
    "allow permit allowlist whitelist / deny forbid block prohibit blocklist blacklist disallow reject",
    "increase raise grow maximize boost higher larger bigger greater / decrease reduce lower shrink minimize fewer smaller lesser",
    "max maximum highest biggest largest longest tallest / min minimum lowest smallest shortest",
    "start begin launch boot / stop end halt quit shutdown terminate kill",
    "add append insert include / remove delete drop erase exclude uninstall",
    "install / uninstall",
    "buy purchase / sell",
    "encrypt / decrypt",
    "encode serialize / decode deserialize",
    "open unlock / close shut lock",
    "connect attach / disconnect detach",
    "send upload push / receive download pull",
    "upgrade / downgrade rollback",
    "accept approve / decline refuse dismiss",
    "import / export",
    "subscribe / unsubscribe",
    "join / leave",
    "follow / unfollow",
    "mute silence / unmute",
    "~hide collapse / show reveal unhide expand",
    "public / private",
    "internal / external",
    "input / output",
    "ascending asc / descending desc",
    "~left / right",
    "north / south",
    "east / west",
    "northern / southern",
    "eastern / western",
    "~top upper / bottom",
    "~front / back rear",
    "inside indoor / outside outdoor",
    "hot warm heat / cold cool freeze",
    "fast quick quickly faster / slow slowly slower",
    "safe harmless / dangerous unsafe harmful toxic poisonous",
    "legal lawful / illegal unlawful",
    "possible / impossible",
    "valid / invalid",
    "advantage advantages pro pros benefit benefits / disadvantage disadvantages con cons drawback drawbacks risk risks",
    "cause causes / effect effects cure",
    "win gain / lose loss",
    "best better / worst worse",
    "~first earliest / last final",
    "~oldest older old / newest newer new youngest younger",
    "before / after",
    "earlier / later",
    "arrive arrival / depart departure",
    "birth born / death die died",
    "male man men boy husband father / female woman women girl wife mother",
    "mount / unmount",
    "compress zip / decompress unzip extract",
    "commit / revert",
    "~create make build / destroy",
    "grant / revoke",
    "~enter login signin / exit logout signout",
    "positive / negative",
    "true / false",
    "~even / odd",
    "credit / debit",
    "lend / borrow",
    "employer / employee",
    "buyer / seller",
    "landlord / tenant",
    "client / server",
    "plaintiff / defendant",
    "synchronous sync / asynchronous async",
    "static / dynamic",
    "mutable / immutable",
    "strong / weak",
    "~hard / soft easy",
    "rich / poor",
    "high / low",
    "wet / dry",
    "~full / empty",
    "present / absent",
    "vertical / horizontal",
    "column columns / row rows",
    "parent / child",
    "ancestor / descendant",
    "prefix / suffix",
    "gross / net",
    "~pass / fail",
    "~light lighter / heavy heavier dark darker",
    "deposit / withdraw",
    "hire / fire",
    "~love like / hate dislike unlike",
    "pause / resume",
    "singular / plural",
    "uppercase / lowercase",
    "~common / rare",
    "agree / disagree",
    "appear / disappear",
    "pin / unpin",
    "link / unlink",
    "load / unload",
    "~wrap / unwrap",
    "stage / unstage",
    "archive / unarchive",
    "ban / unban",
    "above / below",
    "~more most / less least",
    "plus / minus",
    "multiply / divide",
    "~sum / difference",
    "~read / write",
    "~do / undo",
    "~on / off",
    "~in into / out",
    "~up / down",
    "~over / under",
    "~with / without",
    "~to / from",
};

static struct word_meaning table[SLOTS];
static pthread_once_t once = PTHREAD_ONCE_INIT;
static const struct word_meaning nothing;

static struct word_meaning *slot(struct view word)
{
    uint32_t at = (uint32_t)hash64(word) % SLOTS;

    while (table[at].word.len > 0 && !view_eq(table[at].word, word))
        at = (at + 1) % SLOTS;
    return &table[at];
}

static struct word_meaning *learn(struct view word, uint32_t classes)
{
    static size_t count;
    struct word_meaning *m = slot(word);

    if (m->word.len == 0) {
        CHECK(++count < SLOTS * 3 / 4);
        m->word = word;
    }
    m->classes |= classes;
    return m;
}

/* The first pair a word is in decides: the lists put the stronger meaning first. */
static void learn_opposites(struct view rest, int16_t group)
{
    struct view word;
    int16_t side = group;
    bool weak = view_starts_with(rest, VIEW("~"));

    rest = view_skip(rest, weak);
    while (rest.ptr) {
        struct word_meaning *m;

        word = view_cut(&rest, ' ');
        if (view_eq(word, VIEW("/"))) {
            side = (int16_t)-group;
            continue;
        }
        m = learn(word, 0);
        if (m->group == 0) {
            m->group = side;
            m->weak = weak;
        }
    }
}

static void build(void)
{
    struct view rest;

    for (size_t i = 0; i < ARRAY_LEN(lists); i++) {
        rest = view_str(lists[i].words);
        while (rest.ptr)
            (void)learn(view_cut(&rest, ' '), lists[i].classes);
    }
    for (size_t i = 0; i < ARRAY_LEN(units); i++) {
        rest = view_str(units[i]);
        while (rest.ptr)
            learn(view_cut(&rest, ' '), W_UNIT)->value = (int32_t)i + 1;
    }
    for (size_t i = 0; i < ARRAY_LEN(numbers); i++)
        learn(view_str(numbers[i]), W_NUMBER)->value = (int32_t)i;
    for (size_t i = 0; i < ARRAY_LEN(synonyms); i++) {
        rest = view_str(synonyms[i]);
        while (rest.ptr)
            learn(view_cut(&rest, ' '), 0)->synonym = (int32_t)i + 1;
    }
    for (size_t i = 0; i < ARRAY_LEN(opposites); i++)
        learn_opposites(view_str(opposites[i]), (int16_t)(i + 1));
}

const struct word_meaning *word_meaning(struct view lower)
{
    const struct word_meaning *m;

    if (lower.len == 0 || lower.len > 24)
        return &nothing;
    (void)pthread_once(&once, build);
    m = slot(lower);
    return m->word.len ? m : &nothing;
}

struct view word_stem(struct view lower)
{
    static const struct view endings[] = { { "'s", 2 }, { "ing", 3 }, { "ies", 3 }, { "es", 2 },
                                           { "ed", 2 }, { "s", 1 },   { "e", 1 },   { "y", 1 } };

    for (size_t i = 0; i < ARRAY_LEN(endings); i++)
        if (lower.len >= endings[i].len + 3 && view_ends_with(lower, endings[i]) &&
            !(endings[i].len == 1 && view_ends_with(lower, VIEW("ss"))))
            return view_first(lower, lower.len - endings[i].len);
    return lower;
}

const struct word_meaning *word_meaning_stem(struct view lower)
{
    const struct word_meaning *m = word_meaning(lower);
    struct view stem = word_stem(lower);
    char with_e[32];

    if (m->word.len > 0 || stem.len == lower.len || stem.len > 24)
        return m;
    m = word_meaning(stem);
    if (m->word.len > 0)
        return m;
    memcpy(with_e, stem.ptr, stem.len);
    with_e[stem.len] = 'e';
    m = word_meaning(view_make(with_e, stem.len + 1));
    if (m->word.len == 0 && stem.len > 3 && stem.ptr[stem.len - 1] == stem.ptr[stem.len - 2])
        m = word_meaning(view_first(stem, stem.len - 1)); /* "stopped" */
    return m;
}
