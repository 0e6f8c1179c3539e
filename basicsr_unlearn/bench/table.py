"""From the results of jobs to the numbers of the leaderboard."""

import statistics


class Table:
    """Numbers of networks that were measured and attacked alike; how deep they forgot is the matter of a subclass.

    Args:
        goals (Goals): Of the option file.
        results (dict): `{(net, None): what measure gave, (net, attack): what an attack gave}`.
    """

    def __init__(self, goals, results):
        self.goals, self.results = goals, results
        self.has_oracle = ('oracle', None) in results

    def depth(self, nets):
        """Return the columns about how deep networks have forgotten."""
        raise NotImplementedError

    def missed(self, found):
        """Return by how many dB each goal of depth is missed, those that are known."""
        raise NotImplementedError

    def attacks(self):
        """Return what the attacks say of the references and the rows, for curves and remarks."""
        return {}

    def row(self, name, nets, runs=()):
        """Return the numbers of a row, means over its networks (one for each seed).

        Args:
            name (str): Of the row.
            nets (list[str]): Its networks.
            runs (list[dict]): What their unlearning runs gave.

        Returns:
            dict: `row seeds nets sets forget_psnr forget_ssim forget_gap distance retained retained_to_oracle
            worst_retained cost seconds memory cost_share stopped_by unchanged shortfall`, and what `depth` gives; None
            is unknown. `distance` is the mean of |gap|, `unchanged` the number of runs that kept the original.
        """
        sets = {key: self._set(key, nets) for key in self.results['original', None]}
        forget = [values for values in sets.values() if values['role'] == 'forget']
        retain = {key: values for key, values in sets.items() if values['role'] == 'retain'}
        worst = min(retain, key=lambda key: retain[key]['to_original'], default=None)
        found = {
            'row': name,
            'seeds': len(nets),
            'nets': list(nets),
            'sets': sets,
            'forget_psnr': mean([values['psnr'] for values in forget]),
            'forget_ssim': mean([values['ssim'] for values in forget]),
            'forget_gap': mean([values['to_oracle'] for values in forget]) if self.has_oracle else None,
            'distance': mean([values['distance'] for values in forget]) if self.has_oracle else None,
            'worst_retained': worst,
            'retained': retain[worst]['to_original'] if worst else None,
            'retained_to_oracle': min(v['to_oracle'] for v in retain.values()) if worst and self.has_oracle else None,
            **self.depth(nets),
            **{key: mean([run[key] for run in runs]) for key in ('cost', 'seconds', 'memory', 'cost_share')},
            'stopped_by': sorted({run['stopped_by'] for run in runs}),
            'unchanged': sum(run['kept_iteration'] == 0 for run in runs),
        }
        lost = max(0.0, -(found['retained'] or 0.0) - self.goals.retained_loss)
        return {**found, 'shortfall': lost + sum(self.missed(found))}

    def _set(self, key, nets):
        """Return role, PSNR and SSIM of one set, and its PSNR against the references."""
        measured = [self.results[net, None][key] for net in nets]
        psnr = [entry['psnr']['net'] for entry in measured]
        reference = {
            name: self.results[name, None][key]['psnr']['net']
            for name in ('original', 'oracle')
            if (name, None) in self.results
        }
        return {
            'role': measured[0]['role'],
            'input': measured[0]['psnr']['input'],
            'psnr': mean(psnr),
            'psnr_std': statistics.stdev(psnr) if len(psnr) > 1 else None,
            'ssim': mean([entry['ssim']['net'] for entry in measured]),
            'to_original': mean(psnr) - reference['original'],
            'to_oracle': mean(psnr) - reference['oracle'] if 'oracle' in reference else None,
            'distance': mean([abs(value - reference.get('oracle', 0.0)) for value in psnr]),
        }


def mean(values):
    """Return the mean of what is known, None of nothing."""
    values = [value for value in values if value is not None]
    return statistics.fmean(values) if values else None
