"""What a method may touch of the run that it is part of."""

import json
import math

import torch
from torch.utils.data import default_collate
from tqdm import tqdm

from basicsr.archs import build_network
from basicsr.data import build_dataset
from basicsr.utils import get_root_logger
from basicsr_unlearn.checkpoint import load_into
from basicsr_unlearn.methods import Batch

FRESH = 2**40  # where the sample numbers of `batches` begin, which training never reaches


class Run:
    """The net, the frozen original and the device, as a method and the model see them.

    Attributes:
        net (nn.Module): network_g without the distributed wrapper. Forwards without gradient go through it.
        device (torch.device): Where the net lives.
        logger (logging.Logger): BasicSR's.
        quiet (bool): `disable` of progress bars.
        cost (float): What this process has spent so far, in image-forward-equivalents: one training patch through a
            network = 1, a training step on it = 3.
        batch_size (int): Forget images of a training batch on this process.
        whole_batch (int): Those of a batch on all processes.
        folder (str): experiments/NAME, where a method may keep files of its own.
        rank, world_size (int): Which of how many processes this is.
        seed (int): `manual_seed`.
        skipped (Skipped): The training files that were left out.
    """

    def __init__(self, model):
        self._model = model
        self._original = self._reference = self._train_set = None
        self.net = model.get_bare_model(model.net_g)
        self.device = model.device
        self.logger = get_root_logger()
        self.quiet = True if model.opt['rank'] else None  # of progress bars; None: shown on terminals only
        self.cost = 0.0
        self.rank, self.world_size = model.opt['rank'], model.opt['world_size']
        self.batch_size = model.opt['datasets']['train']['batch_size_per_gpu']
        self.whole_batch = self.batch_size * self.world_size
        self.folder = model.opt['path'].get('experiments_root')
        self.seed = model.opt['manual_seed']
        self.skipped = model.skipped

    @property
    def original(self):
        """The network before unlearning, frozen; loaded on first use."""
        if self._original is None:
            self._original = self.load('original')
        return self._original

    def ask(self, images):
        """Restore (N, 3, H, W) with network_g as it is now, without gradient."""
        self.cost += len(images)
        with torch.no_grad(), self._model.autocast():
            return self.net(images).float()

    def ask_original(self, images):
        """Restore (N, 3, H, W) with the original, without gradient."""
        self.cost += len(images)
        with torch.no_grad(), self._model.autocast():
            return self.original(images).float()

    @property
    def has_reference(self):
        """Whether the option file names a network that saw none of the forget set."""
        return bool(self._model.opt['path'].get('pretrain_network_reference'))

    def ask_reference(self, images):
        """Restore (N, 3, H, W) with `path: pretrain_network_reference`, loaded on first use; without gradient."""
        if self._reference is None:
            self._reference = self.load('reference')
        self.cost += len(images)
        with torch.no_grad(), self._model.autocast():
            return self._reference(images).float()

    def differentiable_original(self, images):
        """Restore (N, 3, H, W) with the original, for a gradient with respect to the images."""
        self.cost += 2 * len(images)
        with self._model.autocast():
            return self.original(images).float()

    @property
    def train_set(self):
        """The training data (ForgetRetainPairedDataset); built on first use."""
        if self._train_set is None:
            self._train_set = build_dataset(self._model.opt['datasets']['train'])
        return self._train_set

    def to_batch(self, data, with_retain=True):
        """Make the Batch of collated samples of the training data, the original's answers filled in.

        Args:
            data (dict): As a data loader gives it.
            with_retain (bool): False leaves the retain images out. Default: True.
        """
        self._note_skipped(data)
        names = [name for name in data if name in Batch.__dataclass_fields__]
        if not with_retain:
            names = [name for name in names if not name.startswith('retain')]
        images = {name: data[name].to(self.device, non_blocking=True) for name in names}
        own = len(images['forget_lq'])
        batch = Batch(**images, whole=own * self.world_size, first=own * self.rank)
        if batch.retain_lq is not None and data['retain_from_original'].any():
            asked = data['retain_from_original'].to(self.device)
            batch.retain_gt[asked] = self.ask_original(batch.retain_lq[asked])
        return batch

    def batches(self, images, title, with_retain=True, first=0):
        """Yield Batches of training samples that no iteration sees, under a progress bar; the same in every run.

        Each process gets its part of every batch, and all parts are of one size.

        Args:
            images (int): Forget images of all processes together, rounded up to a multiple of these, and as many
                retain images.
            title (str): Shown beside the progress bar.
            with_retain (bool): False leaves the retain images out. Default: True.
            first (int): How many to leave out at the beginning. Default: 0.
        """
        for data, whole, place in self._samples(self.train_set, images, title, first):
            batch = self.to_batch(data, with_retain)
            batch.whole, batch.first = whole, place
            yield batch

    def images(self, dataset, key, number, title):
        """Yield one kind of image of a data set (N, 3, H, W), drawn and shared out as `batches` does.

        Args:
            dataset (Dataset): `train_set`, or one that gives any sample by its number as it does.
            key (str): Which image of a sample.
            number (int): Of all processes together.
            title (str): Shown beside the progress bar.
        """
        for data, _, _ in self._samples(dataset, number, title):
            self._note_skipped(data)
            yield data[key].to(self.device)

    def _samples(self, dataset, number, title, first=0):
        """Yield collated samples of this process, how many all have in this batch, and the place of these in it."""
        number = math.ceil(number / self.world_size) * self.world_size
        with tqdm(total=number, initial=first, desc=title, unit='image', leave=False, disable=self.quiet) as bar:
            for start in range(first, number, self.whole_batch):
                whole = min(self.whole_batch, number - start)
                own = whole // self.world_size
                numbers = range(FRESH + start + self.rank * own, FRESH + start + (self.rank + 1) * own)
                yield default_collate([dataset[sample] for sample in numbers]), whole, self.rank * own
                bar.update(whole)

    def _note_skipped(self, data):
        for text in data.get('skipped', ()):
            self.skipped.collect(json.loads(text))

    def fresh(self):
        """Build an untrained network_g, the same in every run with one `manual_seed`."""
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(self.seed)  # leaves the accelerators' alone
            return build_network(self._model.opt['network_g']).to(self.device)

    def load(self, which):
        """Build a frozen network with the weights of `path: pretrain_network_{which}`."""
        path = self._model.opt['path']
        net = build_network(self._model.opt['network_g']).to(self.device)
        option = f'pretrain_network_{which}'
        strict = which != 'original' or path.get('strict_load_g', True)
        loaded = load_into(net, path[option], f'path: {option}', path.get(f'param_key_{which}', 'params'), strict)
        self.logger.info(f'Loaded the {which} from {path[option]}: {loaded}.')
        return net.eval().requires_grad_(False)

    def forward(self, *images):
        """Send several batches through network_g as one, which is fastest and what DistributedDataParallel wants.

        Args:
            images (Tensor): Each (N_i, 3, H, W), of one H and W.

        Returns:
            tuple[Tensor]: The results, split as the images were.
        """
        self.cost += 3 * sum(map(len, images))
        return self._model.forward_for_training(torch.cat(images)).split([len(image) for image in images])

    def average(self, tensors):
        """Replace tensors by their means over all processes, in place; gradients that the wrapper has not seen."""
        for tensor in tensors:
            self.total(tensor)
            tensor /= self.world_size

    def total(self, value):
        """Return the sum of a number, or of a tensor in place, over all processes."""
        if self.world_size == 1:
            return value
        tensor = value if torch.is_tensor(value) else torch.tensor(value, dtype=torch.float64, device=self.device)
        torch.distributed.all_reduce(tensor)
        return tensor if torch.is_tensor(value) else tensor.item()

    def gather(self, images):
        """Return the images (N, 3, H, W) of all processes as one tensor, in the order of the whole batch."""
        if self.world_size == 1:
            return images
        parts = [torch.empty_like(images) for _ in range(self.world_size)]
        torch.distributed.all_gather(parts, images.contiguous())
        return torch.cat(parts)

    def gather_objects(self, value):
        """Return the list of what every process gave, by rank."""
        values = [value] * self.world_size
        if self.world_size > 1:
            torch.distributed.all_gather_object(values, value)
        return values
