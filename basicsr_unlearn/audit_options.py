"""The section `audit` of an option file: what `basicsr audit` is given beside the run itself."""

from dataclasses import dataclass, field

from basicsr_unlearn.errors import InputError
from basicsr_unlearn.options import check_choice, check_keys, from_section

ATTACKS = [  # of `attacks`, where the option file names none
    {'data': 'public', 'scope': 'all', 'lr': 1e-4},
    {'data': 'public', 'scope': 'output', 'lr': 3e-4},
    {'data': 'public', 'scope': 'lora', 'lr': 1e-3},
    {'data': 'public', 'scope': 'prompt', 'lr': 1e-3},
    {'data': 'private', 'scope': 'all', 'lr': 1e-4},
    {'data': 'public', 'scope': 'all', 'lr': 3e-4},
    {'data': 'public', 'scope': 'output', 'lr': 1e-3},
    {'data': 'private', 'scope': 'output', 'lr': 3e-4},
]
QUICK = 5  # so many of them with --quick
LIMITS = {  # of the verdicts: green up to the first, red above the second
    'forget_gap': [0.5, 1.0],  # dB
    'agreement': [0.25, 0.5],  # of the original's lead over the oracle, as all without a unit
    'colour': [0.02, 0.05],  # of the range of the pictures
    'texture': [0.3, 0.6],  # log2
    'relearn': [0.25, 0.5],
    'swap': [0.25, 0.5],
    'probe_type': [0.25, 0.5],
    'probe_strength': [0.25, 0.5],
    'retained': [0.1, 0.5],  # dB
    'radius': [0.2, 0.4],  # share
    'auc': [0.03, 0.1],
    'over_forgetting': [0.1, 0.3],  # dB
    'confusion': [0.3, 0.6],
    'u_lira': [0.05, 0.15],
    'price': [1.0, 5.0],  # percent
}


@dataclass
class AuditOptions:
    """`audit:`. All of it may be left out; what then cannot be said is n/a with the reason."""

    public: dict = None  # a source of pairs of the forgotten kind that is used nowhere else: relearning, linear probe
    heldout: dict = None  # a source of pairs like the forget set that were never trained on: membership
    reference: str = None  # weights that saw neither of the two; ~: those of oracle_2, of the oracle, else the input
    oracle_2: str = None  # weights of an oracle of another seed: what is noise
    attacks: list = field(default_factory=lambda: list(ATTACKS))  # data: public | private; scope; lr
    scopes: dict = field(
        default_factory=lambda: {'output': ['output', 'refinement', 'ending'], 'prompt': ['prompt']}
    )  # regular expressions for the beginnings of parameters' names; those that match nothing are left out
    encoder: list = None  # patterns of the modules that are the encoder; ~: those of PromptIR, AdaIR, Restormer, NAFNet
    latent: list = None  # the same for the linear probe
    crop: int = 256  # pixels, the centre of every measured picture
    images: int = None  # pictures of each validation set; ~: 20, with --quick 6
    steps: int = None  # of relearning; ~: 200, with --quick 60
    shadows: int = 16  # networks of the shadow attack, 16 to 64; 0: none
    seed: int = 0
    pictures: int = 2  # of each validation set on the page
    limits: dict = field(default_factory=dict)  # over those above


def audit_options(section):
    """Return the checked AuditOptions of a section `audit`.

    Raises:
        InputError: One line that names the option, the value and the remedy.
    """
    options = from_section(AuditOptions, section or {}, 'audit')
    for number, attack in enumerate(options.attacks):
        option = f'audit: attacks: {number}'
        check_keys(option, attack, ('data', 'scope', 'lr'))
        check_choice(f'{option}: data', attack.get('data'), ('public', 'private'))
        check_choice(f'{option}: scope', attack.get('scope'), ('all', 'lora', *options.scopes))
        rate = attack.get('lr')
        if not isinstance(rate, (int, float)) or not 0 < rate < 1:
            raise InputError(f'{option}: lr: {rate} must be a learning rate, for example 1e-4.')
    for key in ('crop', 'images', 'steps'):
        value = getattr(options, key)
        if value is not None and value < (16 if key == 'crop' else 1):
            raise InputError(f'audit: {key}: {value} is too small.')
    if options.shadows and not 16 <= options.shadows <= 64:
        raise InputError(f'audit: shadows: {options.shadows} must be 16 to 64, or 0 for none.')
    check_keys('audit: limits', options.limits, LIMITS)
    for key, pair in options.limits.items():
        rising = isinstance(pair, list) and len(pair) == 2 and all(isinstance(x, (int, float)) for x in pair)
        if not rising or not 0 <= pair[0] <= pair[1]:
            raise InputError(f'audit: limits: {key}: {pair} must be two rising numbers such as {LIMITS[key]}.')
    return options
