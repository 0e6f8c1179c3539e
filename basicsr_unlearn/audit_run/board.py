"""An audit in TensorBoard: its measures as scalars, and a row of the table of hyperparameters."""

from os import path as osp

from torch.utils.tensorboard import SummaryWriter

from basicsr_unlearn import option_file

FOLDER = 'audit'  # below that of the run


def write(subject, content):
    """Write an event file for the audit into `tb_logger/NAME/audit`, unless `logger: use_tb_logger` is false.

    Args:
        subject (Subject): The audit.
        content (dict): That of audit.json.
    """
    if not subject.opt['logger'].get('use_tb_logger'):
        return
    numbers = {
        f'{question["key"]}/{measure["name"]}': measure['values']['unlearned']
        for question in content['questions']
        for measure in question['measures']
        if 'unlearned' in measure['values']
    }
    known, options = {'name': content['name'], 'method': content['method']}, subject.run_options()
    if options:
        train = option_file.read(options, 'the run')['train']
        known.update(train['method'], **{f'optim_g/{key}': value for key, value in train['optim_g'].items()})
    known = {key: value for key, value in known.items() if isinstance(value, (int, float, str, bool))}
    with SummaryWriter(osp.join('tb_logger', subject.name, FOLDER)) as writer:
        writer.add_hparams(known, {f'audit/{key}': value for key, value in numbers.items()}, run_name='.')
        writer.add_text('audit/sentences', '\n\n'.join(question['sentence'] for question in content['questions']))
