import warnings

import pytest
import torch

import basicsr.train
from basicsr.models.base_model import BaseModel
from basicsr.utils.registry import Registry
from basicsr_unlearn import compat


class Model(BaseModel):
    """A BaseModel that saves into a folder."""

    def __init__(self, folder):
        self.opt = {'path': {'models': str(folder), 'training_states': str(folder)}, 'dist': False, 'num_gpu': 0}
        self.optimizers, self.schedulers = [], []


def patched():
    return (
        BaseModel.get_optimizer,
        BaseModel.save_network,
        basicsr.train.parse_options,
        basicsr.train.EnlargedSampler,
        basicsr.train.load_resume_state,
        BaseModel.resume_training,
        BaseModel.model_to_device,
    )


def test_applying_twice_changes_nothing():
    before = patched()
    compat.apply()
    assert patched() == before


@pytest.mark.parametrize('name', ['Adam', 'AdamW', 'SGD', 'RMSprop'])
def test_optimizers(name, tmp_path):
    optimizer = Model(tmp_path).get_optimizer(name, [torch.nn.Parameter(torch.ones(1))], 0.1)
    assert type(optimizer) is getattr(torch.optim, name) and optimizer.defaults['lr'] == 0.1


def test_unknown_optimizers_list_the_known(tmp_path):
    with pytest.raises(NotImplementedError, match='AdamWW is unknown.*AdamW, '):
        Model(tmp_path).get_optimizer('AdamWW', [], 0.1)


def test_a_failed_save_is_an_error(tmp_path, monkeypatch):
    monkeypatch.setattr('time.sleep', lambda seconds: None)
    model, net = Model(tmp_path / 'missing'), torch.nn.Linear(1, 1)
    with pytest.raises(OSError, match='net_g_3.pth'):
        model.save_network(net, 'net_g', 3)
    with pytest.raises(OSError, match='3.state'):
        model.save_training_state(0, 3)


def test_a_save_that_works_at_last_is_none(tmp_path, monkeypatch):
    monkeypatch.setattr('time.sleep', lambda seconds: None)
    from basicsr.models import base_model

    real, attempts = base_model.torch._save, []

    def flaky(content, path):
        attempts.append(path)
        if len(attempts) < 3:
            raise OSError('busy')
        real(content, path)

    monkeypatch.setattr(base_model.torch, '_save', flaky)
    Model(tmp_path).save_network(torch.nn.Linear(1, 1), 'net_g', 3)
    assert len(attempts) == 3 and (tmp_path / 'net_g_3.pth').exists()


def test_taken_names_are_left_alone():
    registry = Registry('test')

    class Net:
        pass

    theirs = Net
    registry.register(theirs)

    class Net:  # noqa: F811
        pass

    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter('always')
        compat.register_unless_taken(registry)(Net)
    assert registry.get('Net') is theirs and 'already registered' in str(seen[0].message)
