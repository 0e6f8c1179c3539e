"""The look at retain data before a run: nothing of it may be what an earlier request made the network forget."""

from basicsr_unlearn import history
from basicsr_unlearn.data.digests import pixel_digests
from basicsr_unlearn.data.sources import build_source
from basicsr_unlearn.errors import InputError


def check_retain(opt):
    """Compare the retain sources of a run with the history of the network that it starts from.

    A degradation that was forgotten as a whole (`task: degradation`) may not be retained, nor may its degraded images.
    Of sources and instances neither degraded nor clean images may be, nor drawn scenes of the same numbers.

    Args:
        opt (dict): The option tree. Every file of the retain sources is read if the history has digests of files.

    Returns:
        str: What was compared, for people.

    Raises:
        InputError: One line that names the source, the file and the request.
    """
    known, train = history.of(opt), opt['datasets']['train']
    if not known:
        return 'no earlier requests'
    forget = build_source('datasets: train: forget', train['forget'])
    for name, section in (train.get('retain') or {}).items():
        option = f'datasets: train: retain: {name}'
        for request in known:
            _check_section(option, section, request)
        if any(request['forget'].get(side) for request in known for side in history.SIDES):
            _check_files(option, build_source(option, {**section, 'cache': False}, forget), known)
    return f'nothing in common with {", ".join(request["name"] for request in known)}'


def _check_section(option, section, request):
    forgotten, kind = request['forget'], (section.get('degradation') or {}).get('type')
    if request['task'] == 'degradation':
        if kind and kind == forgotten.get('degradation'):
            raise InputError(
                f'{option}: is {kind}, which the earlier request {request["name"]} made the network forget as a whole. '
                'Take it out.'
            )
    elif forgotten.get('scenes') and section.get('scenes'):
        first, number = forgotten['scenes']
        own = section.get('first_scene', 0)
        low, high = max(first, own), min(first + number, own + section['scenes']) - 1
        if low <= high:
            raise InputError(
                f'{option}: scenes {low} to {high} were forgotten by the earlier request {request["name"]}. Set '
                f'first_scene: {first + number}, or another one beyond them.'
            )


def _check_files(option, source, known):
    for side, images in pixel_digests(source).items():
        for request in known:
            if side == 'clean' and request['task'] == 'degradation':
                continue  # the same photograph may stay under another degradation
            same = images.keys() & set(request['forget'].get(side) or [])
            if same:
                raise InputError(
                    f'{option}: {min(images[digest] for digest in same)}: the earlier request {request["name"]} made '
                    f'the network forget it ({len(same)} {side} images in all). Take them out of the retain data.'
                )
