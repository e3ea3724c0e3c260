"""The tables behind the miniature: what its posts are about, and the values that fill them.

A situation is one event (with its own key phrase, people and slots) together with one wish of the writer: 24
subreddits of 6 events and 3 wishes make 432. Every value is one or two tokens of a tokenizer trained on the posts,
so that a model of a million parameters can learn in two minutes to copy it.

An event is written `my {person} [crashed my car] $`: the brackets hold the key phrase that a summary must repeat, and
`$` says that the event can have cost money.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

PARTNERS = ("girlfriend", "boyfriend", "wife", "husband", "fiancee", "partner")
FAMILY = ("sister", "brother", "mother", "father", "aunt", "uncle", "cousin", "nephew", "niece")
FRIENDS = ("roommate", "neighbor", "friend", "classmate", "teammate", "cousin")
WORK = ("boss", "coworker", "manager", "supervisor", "director", "colleague")
TEACHERS = ("teacher", "tutor", "professor", "mentor", "advisor", "dean")
COACHES = ("coach", "trainer", "instructor", "captain", "physio", "rival")
STUDIO = ("assistant", "mentor", "client", "agent", "editor", "model")
RESIDENTS = ("landlord", "neighbor", "tenant", "builder", "contractor", "gardener")
GARAGE = ("mechanic", "dealer", "neighbor", "driver", "valet", "apprentice")
TRADES = ("plumber", "painter", "builder", "contractor", "electrician", "carpenter")

PLACES = (
    *("Denver", "Boston", "Austin", "Seattle", "Chicago", "Dallas", "Phoenix", "Portland", "Miami", "Atlanta"),
    *("Houston", "Detroit", "Memphis", "Nashville", "Oakland", "Tampa", "Orlando", "Omaha", "Tulsa", "Reno"),
    *("Boise", "Tucson", "Fresno", "Madison", "London", "Dublin", "Paris", "Berlin", "Toronto", "Montreal"),
    *("Sydney", "Oslo", "Madrid", "Vienna", "Prague", "Lisbon"),
)
AGES = tuple(str(age) for age in range(20, 60))
AMOUNTS = (
    *("$40", "$60", "$75", "$80", "$90", "$120", "$150", "$180", "$200", "$240", "$250", "$300", "$320", "$350"),
    *("$400", "$450", "$500", "$550", "$600", "$650", "$700", "$750", "$800", "$850", "$900", "$950", "$1100"),
    *("$1200", "$1500", "$1800", "$2000", "$2200", "$2500", "$3000", "$3500", "$4000"),
)
COUNTS = ("two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven")
UNITS = ("days", "weeks", "months")
TIMES = tuple(f"{count} {unit}" for count in COUNTS for unit in UNITS)
_GROUPS = (PARTNERS, FAMILY, FRIENDS, WORK, TEACHERS, COACHES, STUDIO, RESIDENTS, GARAGE, TRADES)
PEOPLE = tuple(dict.fromkeys(person for group in _GROUPS for person in group))

# subreddit: (people, events, wishes)
_TABLE: dict[str, tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]] = {
    "relationships": (
        PARTNERS,
        (
            "my {person} [forgot our anniversary]",
            "my {person} [read my private messages]",
            "my {person} [asked for a long break]",
            "my {person} [lied about a work trip] $",
            "my {person} [moved out without a word] $",
            "my {person} [spent our holiday savings] $",
        ),
        ("save the relationship", "talk about it calmly", "understand the reason"),
    ),
    "family": (
        FAMILY,
        (
            "my {person} [sold the old piano] $",
            "my {person} [skipped our wedding] $",
            "my {person} [ruined the holiday dinner] $",
            "my {person} [stopped answering my calls]",
            "my {person} [told everyone my secret]",
            "my {person} [borrowed my savings] $",
        ),
        ("keep the peace at home", "get an honest apology", "set clear limits"),
    ),
    "roommates": (
        FRIENDS,
        (
            "my {person} [threw a loud party]",
            "my {person} [broke the washing machine] $",
            "my {person} [stopped paying rent] $",
            "my {person} [ate all my groceries] $",
            "my {person} [let a stranger move in]",
            "my {person} [flooded the bathroom] $",
        ),
        ("find a new flat", "write down house rules", "split the bills fairly"),
    ),
    "legaladvice": (
        RESIDENTS,
        (
            "my {person} [kept my deposit] $",
            "my {person} [sued me over a fence] $",
            "my {person} [signed papers in my name] $",
            "my {person} [cut down my tree] $",
            "my {person} [entered my home at night]",
            "my {person} [ignored a written contract] $",
        ),
        ("avoid going to court", "know my rights", "find a cheap lawyer"),
    ),
    "personalfinance": (
        FAMILY,
        (
            "my {person} [used my credit card] $",
            "my {person} [lost our house fund] $",
            "my {person} [forgot to file taxes] $",
            "my {person} [bet against the market] $",
            "my {person} [emptied a shared account] $",
            "my {person} [signed a bad loan] $",
        ),
        ("pay off the debt", "rebuild my savings", "protect my credit score"),
    ),
    "jobs": (
        WORK,
        (
            "my {person} [took credit for my report]",
            "my {person} [cut my hours] $",
            "my {person} [yelled at me in a meeting]",
            "my {person} [lost my paycheck] $",
            "my {person} [gave my shift away] $",
            "my {person} [promised me a raise] $",
        ),
        ("change to another team", "leave on good terms", "raise it with management"),
    ),
    "college": (
        TEACHERS,
        (
            "my {person} [failed my final essay]",
            "my {person} [lost my application] $",
            "my {person} [cancelled the summer course] $",
            "my {person} [accused me of cheating]",
            "my {person} [withdrew a scholarship] $",
            "my {person} [moved the exam forward]",
        ),
        ("graduate on time", "appeal the decision", "pick a new major"),
    ),
    "pets": (
        FRIENDS,
        (
            "my {person} [let my dog escape] $",
            "my {person} [fed my cat chocolate] $",
            "my {person} [gave away my parrot]",
            "my {person} [brought home a puppy] $",
            "my {person} [scared my rabbit] $",
            "my {person} [left my hamster outside]",
        ),
        ("keep my pet safe", "find a kind vet", "train it better"),
    ),
    "cars": (
        GARAGE,
        (
            "my {person} [crashed my car] $",
            "my {person} [scratched my truck] $",
            "my {person} [sold me a broken van] $",
            "my {person} [put diesel in my engine] $",
            "my {person} [lost my spare key] $",
            "my {person} [towed my motorbike] $",
        ),
        ("fix it cheaply", "make the insurance pay", "buy something reliable"),
    ),
    "travel": (
        PARTNERS,
        (
            "my {person} [missed our flight] $",
            "my {person} [lost both passports] $",
            "my {person} [booked the wrong hotel] $",
            "my {person} [got food poisoning] $",
            "my {person} [left a bag on the train]",
            "my {person} [argued with a border guard]",
        ),
        ("get a refund", "enjoy the rest of the trip", "plan the next one better"),
    ),
    "cooking": (
        FAMILY,
        (
            "my {person} [burned the birthday cake] $",
            "my {person} [melted my best pan] $",
            "my {person} [set off the smoke alarm]",
            "my {person} [mixed up salt and sugar]",
            "my {person} [dropped the whole turkey] $",
            "my {person} [laughed at my soup]",
        ),
        ("cook with confidence", "learn an easy recipe", "surprise everyone next time"),
    ),
    "fitness": (
        COACHES,
        (
            "my {person} [pushed me into an injury] $",
            "my {person} [changed my whole routine]",
            "my {person} [charged me twice] $",
            "my {person} [quit before my race] $",
            "my {person} [mocked my running form]",
            "my {person} [dropped a weight on my foot] $",
        ),
        ("get back in shape", "run a marathon", "train without pain"),
    ),
    "gaming": (
        FRIENDS,
        (
            "my {person} [deleted my save file]",
            "my {person} [spilled juice on my console] $",
            "my {person} [got my account banned] $",
            "my {person} [sold my rare cards] $",
            "my {person} [quit during the big match]",
            "my {person} [broke my new controller] $",
        ),
        ("recover my progress", "play together again", "find a calmer group"),
    ),
    "weddings": (
        FAMILY,
        (
            "my {person} [invited thirty extra guests] $",
            "my {person} [cancelled the caterer] $",
            "my {person} [wore a white dress]",
            "my {person} [gave a rude speech]",
            "my {person} [lost the rings] $",
            "my {person} [ripped my veil] $",
        ),
        ("have a small ceremony", "stay within budget", "forget the drama"),
    ),
    "homeimprovement": (
        TRADES,
        (
            "my {person} [drilled into a pipe] $",
            "my {person} [painted the wrong wall] $",
            "my {person} [left the roof unfinished] $",
            "my {person} [cracked the kitchen tiles] $",
            "my {person} [blew the main fuse]",
            "my {person} [installed a crooked door] $",
        ),
        ("finish before winter", "do the rest myself", "hire someone careful"),
    ),
    "gardening": (
        RESIDENTS,
        (
            "my {person} [poisoned my tomatoes] $",
            "my {person} [mowed over my roses] $",
            "my {person} [built a shed on my border] $",
            "my {person} [stole my pumpkins]",
            "my {person} [drained the pond] $",
            "my {person} [planted bamboo by my fence]",
        ),
        ("save the plants", "grow food next spring", "block the view"),
    ),
    "music": (
        FRIENDS,
        (
            "my {person} [dropped my guitar] $",
            "my {person} [left our band]",
            "my {person} [stole my song]",
            "my {person} [overslept our concert] $",
            "my {person} [broke a borrowed violin] $",
            "my {person} [recorded me in secret]",
        ),
        ("keep playing live", "start a new band", "finish our album"),
    ),
    "parenting": (
        PARTNERS,
        (
            "my {person} [missed the school play]",
            "my {person} [gave our son a phone] $",
            "my {person} [forgot to pick up our daughter]",
            "my {person} [shouted at the principal]",
            "my {person} [bought a huge trampoline] $",
            "my {person} [hired a strange nanny] $",
        ),
        ("raise happy kids", "share the work equally", "agree on some rules"),
    ),
    "smallbusiness": (
        WORK,
        (
            "my {person} [copied my product] $",
            "my {person} [deleted the customer list] $",
            "my {person} [posted a nasty review]",
            "my {person} [refused to pay an invoice] $",
            "my {person} [locked me out of the shop]",
            "my {person} [ordered the wrong stock] $",
        ),
        ("keep my shop open", "win back customers", "sell the company"),
    ),
    "techsupport": (
        WORK,
        (
            "my {person} [spilled coffee on my laptop] $",
            "my {person} [opened a virus email] $",
            "my {person} [wiped the backup drive] $",
            "my {person} [cracked my phone screen] $",
            "my {person} [changed the router password]",
            "my {person} [unplugged the main server] $",
        ),
        ("rescue my files", "stop it happening again", "replace it soon"),
    ),
    "photography": (
        STUDIO,
        (
            "my {person} [dropped my camera] $",
            "my {person} [published my pictures]",
            "my {person} [lost the memory card]",
            "my {person} [scratched my best lens] $",
            "my {person} [cancelled a paid shoot] $",
            "my {person} [edited my portrait badly]",
        ),
        ("build a portfolio", "shoot more landscapes", "charge a fair price"),
    ),
    "mildlyinfuriating": (
        FAMILY,
        (
            "my {person} [parked on the lawn]",
            "my {person} [broke a window with a ball] $",
            "my {person} [called the police over noise]",
            "my {person} [knocked over a mailbox] $",
            "my {person} [burned trash in the yard] $",
            "my {person} [started a feud over a hedge]",
        ),
        ("be on good terms again", "sleep at night", "move somewhere quiet"),
    ),
    "dating": (
        FRIENDS,
        (
            "my {person} [kissed my date]",
            "my {person} [set me up with an ex]",
            "my {person} [ruined a fancy dinner] $",
            "my {person} [confessed a crush]",
            "my {person} [left me with the bill] $",
            "my {person} [wrote my dating profile]",
        ),
        ("meet someone kind", "go slower this time", "end it politely"),
    ),
    "health": (
        FAMILY,
        (
            "my {person} [broke a leg skiing] $",
            "my {person} [threw out my medicine] $",
            "my {person} [fainted at the gym]",
            "my {person} [gave me the flu]",
            "my {person} [lost my new glasses] $",
            "my {person} [refused to see a doctor]",
        ),
        ("recover quickly", "calm everyone down", "choose better insurance"),
    ),
}

DISTRACTORS = (
    "Sorry for the long post.",
    "I have not slept well since.",
    "English is not my first language.",
    "I am typing this on my phone.",
    "Everyone keeps giving me different advice.",
    "It rained the whole day, as always.",
    "I never thought I would post here.",
    "Please be kind in the comments.",
    "I keep going over it in my head.",
    "Maybe I am making too much of this.",
    "The rest of the week was quite normal.",
    "I will answer questions in the comments.",
    "This is a throwaway account.",
    "I had a sandwich and tried to think.",
    "Nobody else seems to care much.",
    "I have read the rules of this place.",
    "My head still hurts from all of it.",
    "We usually get along just fine.",
    "Work has been busy on top of that.",
    "I wrote this in one go.",
    "Things had been going so well before.",
    "I know how strange this sounds.",
    "To be honest, I laughed at first.",
    "I have been reading here for a while.",
)

FILLERS = (
    "I really do not know what to think about all of this anymore.",
    "It has been on my mind a lot and I keep telling everyone about it.",
    "Please tell me what you would do because I am out of ideas here.",
    "There is much more to say but this is the main part of the story.",
    "Anyway that is what happened and I thought that I should share it.",
)


@dataclass(frozen=True)
class Situation:
    """One event and one wish; `event` has the slot `{person}`, `key` is its phrase that a summary must repeat."""

    id: str
    subreddit: str
    people: tuple[str, ...]
    event: str
    key: str
    wish: str
    costs: bool


@cache
def situations() -> tuple[Situation, ...]:
    """Every situation, in the order of the tables."""
    return tuple(
        _situation(subreddit, people, row, wish, f"{subreddit}-{number}-{which}")
        for subreddit, (people, rows, wishes) in _TABLE.items()
        for number, row in enumerate(rows)
        for which, wish in enumerate(wishes)
    )


def _situation(subreddit: str, people: tuple[str, ...], row: str, wish: str, name: str) -> Situation:
    costs = row.endswith(" $")
    event = row.removesuffix(" $")
    key = event[event.index("[") + 1 : event.index("]")]
    return Situation(name, subreddit, people, event.replace("[", "").replace("]", ""), key, wish, costs)


@cache
def situation(name: str) -> Situation:
    """The situation with this id. Raises: KeyError."""
    return {item.id: item for item in situations()}[name]
