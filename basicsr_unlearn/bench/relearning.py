"""The depth of a forgotten degradation: how soon it comes back, against the oracle."""

from basicsr_unlearn.audits.relearn import LOOKS, excess
from basicsr_unlearn.bench.table import Table, mean


def attacks(course, net, split, stage):
    """Return `{(lr, scope, seed): job}` of the relearning attacks of a stage on a network."""
    return {attack: _job(course, net, split, stage, *attack) for attack in stage.attacks()}


def _job(course, net, split, stage, lr, scope, seed):
    job, own = course.looking_job(net, split, stage.attack_images), course.bench.attack
    key = f'attack-{net}-{split}-{stage.attack_images or "all"}-{lr:g}-{scope}-s{seed}-{stage.steps}'
    looks = len([look for look in LOOKS if look < stage.steps]) + 1
    cost = 3 * own.batch_size * stage.steps + looks * course.cost_of_sets(split, stage.attack_images, 'forget')
    return {
        **job,
        'kind': 'attack',
        'key': key,
        'cost': cost,
        'lr': lr,
        'scope': own.scopes[scope],
        'seed': seed,
        'steps': stage.steps,
        'data': own.data,
        'batch_size': own.batch_size,
    }


class RelearnTable(Table):
    """Numbers of networks whose attacks are fine-tuning on the forgotten degradation: `{step: PSNR}` each."""

    def __init__(self, goals, results):
        super().__init__(goals, results)
        self.curves = {
            key: {int(step): value for step, value in curve.items()} for key, curve in results.items() if key[1]
        }

    def depth(self, nets):
        """Return `relearn_excess` (dB, of the worst attack), `worst_attack` and `excess` of every attack."""
        found = self._excess(nets)
        known = {attack: value for attack, value in found.items() if value is not None}
        hardest = max(known, key=known.get, default=None)
        return {'relearn_excess': known.get(hardest), 'worst_attack': hardest, 'excess': found}

    def missed(self, found):
        pairs = (found['distance'], self.goals.forget_gap), (found['relearn_excess'], self.goals.relearn_excess)
        return [max(0.0, value - goal) for value, goal in pairs if value is not None]

    def _excess(self, nets):
        """Return `{'lr scope': mean E over networks and attack seeds, None where the attack shows nothing}`."""
        found = {}
        for lr, scope, seed in sorted({attack for _, attack in self.curves}) if self.has_oracle else ():
            for net in nets:
                reference = [self.curves[name, (lr, scope, seed)] for name in ('oracle', 'original')]
                value, _ = excess(self.curves[net, (lr, scope, seed)], *reference)
                found.setdefault(f'{lr:g} {scope}', []).append(value)
        return {attack: None if None in values else mean(values) for attack, values in found.items()}

    def attacks(self):
        """Return for each attack of the references: its curves and the number of steps that say something."""
        found = {}
        for lr, scope, seed in sorted({attack for _, attack in self.curves}):
            curves = {net: curve for (net, attack), curve in self.curves.items() if attack == (lr, scope, seed)}
            window = excess(curves['original'], curves['oracle'], curves['original'])[1] if self.has_oracle else None
            found[f'{lr:g} {scope} seed {seed}'] = {'window': window, 'curves': curves}
        return found
