"""The pictures of an audit's page: the centres of a few images of each validation set."""

import os
from os import path as osp

import cv2
import torch

from basicsr.data import build_dataset
from basicsr.utils import tensor2img
from basicsr_unlearn import leftovers
from basicsr_unlearn.atomic import atomic_write
from basicsr_unlearn.audits.subjects import Crops, answer, load
from basicsr_unlearn.data.pairing import stem_of
from basicsr_unlearn.options import hashed, tile_options

SIZE = 320  # pixels
QUALITY = 88  # of JPEG


def write(course):
    """Write `pictures/SET_NUMBER_NET.jpg`; those that show forgotten images only where the run is not private.

    Returns:
        list[dict]: `pictures` of audit.json.
    """
    subject, tiles = course.subject, tile_options(course.opt)
    hidden = leftovers.forgotten_sets(subject.opt) if subject.private else []
    nets = {name: load({'opt': course.opt}, net) for name, net in course.nets.items() if name != 'oracle_2'}
    folder, found = osp.join(subject.folder, 'pictures'), []
    torch.set_num_threads(1)  # as the processes of the pool: small tiles gain nothing by more
    os.makedirs(folder, exist_ok=True)
    for name, section in subject.sets().items():
        if name in hidden:
            continue
        crops = Crops(build_dataset(section), course.options.pictures, SIZE)
        for number in range(len(crops) if course.options.pictures else 0):
            item = crops[number]
            panels = {'input': item['lq']}
            panels.update({net: answer(one, item['lq'].unsqueeze(0), tiles) for net, one in nets.items()})
            panels['clean'] = item['gt']
            files = {net: f'pictures/{name}_{number}_{net}.jpg' for net in panels}
            for net, panel in panels.items():
                _write(tensor2img([panel]), osp.join(subject.folder, files[net]))
            title = osp.basename(item['lq_path'])
            title = hashed(title) if subject.private else stem_of(title)
            found.append({'set': name, 'role': section['role'], 'number': number, 'name': title, 'files': files})
    return found


def _write(image, path):
    atomic_write(cv2.imencode('.jpg', image, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])[1].tobytes(), path)
