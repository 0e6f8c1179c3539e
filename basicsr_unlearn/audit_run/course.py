"""The course of an audit: jobs for all networks, their numbers, the verdicts, and the files of it."""

import json
import os
import re
from datetime import datetime, timezone
from os import path as osp

from basicsr.data import build_dataset
from basicsr_unlearn import __version__, checkpoint, manifest
from basicsr_unlearn.atomic import atomic_write
from basicsr_unlearn.audit_run import board, findings, pictures, record, toys, verdicts
from basicsr_unlearn.audit_run.findings import PUBLIC
from basicsr_unlearn.audit_run.jobs import KINDS
from basicsr_unlearn.audits.relearn import LOOKS
from basicsr_unlearn.audits.subjects import second
from basicsr_unlearn.errors import InputError
from basicsr_unlearn.network import build_network_g
from basicsr_unlearn.pool import Pool, digest

BATCH = 4  # of the relearning attacker
LORA_RANK = 4


class Course:
    """One audit from jobs to files.

    Args:
        subject (Subject): What to look at.
        workers (int): Processes. Default: one for each GPU, without a GPU one for each core.
    """

    def __init__(self, subject, workers=None):
        self.subject, self.depth, self.options = subject, subject.depth, subject.options
        self.pool = Pool('audits', {**KINDS, **toys.KINDS}, workers)
        self.nets = subject.nets
        train = subject.opt['datasets']['train']
        self.opt = {key: subject.opt[key] for key in ('network_g', 'scale', 'rank', 'world_size')}
        self.opt['val'] = subject.opt.get('val') or {}
        self.opt['datasets'] = {'train': {key: train.get(key) for key in ('gt_size', 'use_hflip', 'use_rot')}}
        self.counts = {name: len(build_dataset(section)) for name, section in subject.sets().items()}
        self.parameters = [name for name, _ in build_network_g(subject.opt['network_g']).named_parameters()]
        self.missing = {}  # {attack: why it is left out}

    def jobs(self):
        """Return every job of the networks: `{(audit, net, part): job}`."""
        found = {}
        for name, net in self.nets.items():
            found.update(self._behaviour(name, net))
            found.update(self._relearning(name, net))
            found.update(self._hidden(name, net))
            found.update(self._membership(name, net))
            found.update(self._robustness(name, net))
        if self.options.heldout:
            found.update(self._membership('difficulty', self.subject.reference()))
        return {**found, **toys.jobs(self)}

    def run(self):
        """Do everything that is not done; write `audit.json` and the pictures.

        Returns:
            dict: The content of audit.json.
        """
        subject = self.subject
        os.makedirs(subject.folder, exist_ok=True)
        with self.pool:
            jobs = self.jobs()
            done = self.pool.run(list(jobs.values()), f'audit of {subject.name}')
            results = {key: done[job['key']] for key, job in jobs.items()}
            audits = findings.collect(self, results)
            audits.update(toys.run(self))
        self._check_hashes()
        content = {
            'version': __version__,
            'name': subject.name,
            'run': (subject.summary or {}).get('name'),
            'method': (subject.summary or {}).get('method'),
            'task': subject.task,
            'private': subject.private,
            'quick': subject.quick,
            'seed': self.options.seed,
            'finished': datetime.now(timezone.utc).isoformat(timespec='seconds'),
            'nets': {name: {'path': net['weights'], 'sha256': net['sha256']} for name, net in self.nets.items()},
            'summary': subject.summary,
            'questions': verdicts.questions(subject, audits, self._cost_share()),
            'audits': audits,
            'sets': findings.table(audits['behaviour']['sets']),
            'pictures': pictures.write(self),
            'record': record.collect(subject, self.nets),
        }
        atomic_write(json.dumps(content, indent=1) + '\n', osp.join(subject.folder, 'audit.json'))
        board.write(subject, content)
        return content

    def _cost_share(self):
        cost, whole = (self.subject.summary or {}).get('cost'), manifest.oracle_cost(self.subject.opt)
        return cost / whole if cost and whole else None

    def _check_hashes(self):
        for name, net in self.nets.items():
            if checkpoint.sha256(checkpoint.resolve(net['weights'])) != net['sha256']:
                raise InputError(f'{name}: {net["weights"]}: has changed while it was audited. Run the audit again.')

    def job(self, kind, net, cost, **facts):
        """Return a job on a network; its key says what it is, so that audits of other runs find its result."""
        job = {'kind': kind, 'opt': self.opt, 'crop': self.subject.crop, 'cost': cost, 'seed': self.options.seed}
        job.update(net or {'weights': None, 'param_key': None, 'strict': True, 'sha256': None})
        job.update(facts)
        job['key'] = f'{kind}-{(job["sha256"] or "input")[:8]}-{digest(job)}'
        return job

    def _looks(self, images=None, sets=None):
        """Return the cost of one pass over validation sets."""
        patches = max(1.0, (self.subject.crop / self.subject.patch) ** 2)
        return patches * sum(min(self.counts[name], images or self.depth.images) for name in sets or self.counts)

    def _behaviour(self, name, net):
        subject = self.subject
        common = {'images': self.depth.images, 'oracle': self.nets.get('oracle'), 'private': subject.private}
        found = {}
        for title, section in subject.sets().items():
            cost = 2 * self._looks(sets=[title])
            facts = {**common, 'name': title, 'section': section}
            found['behaviour', name, title] = self.job('look', net, cost, **facts)
            if name == 'original':
                found['behaviour', 'input', title] = self.job('look', None, cost, **facts)
        return found

    def _relearning(self, name, net):
        forget, found = self.subject.sets('forget'), {}
        looks = len([look for look in LOOKS if look < self.depth.steps]) + 1
        cost = 3 * BATCH * self.depth.steps + looks * self._looks(self.depth.attack_images, forget)
        for attack in self.options.attacks[: self.depth.attacks]:
            key = attack['data'], attack['scope'], attack['lr']
            data = {'public': self.options.public, 'private': self.subject.forget}[attack['data']]
            scope = self._scope(attack['scope'])
            title = f'{attack["data"]} {attack["scope"]} {attack["lr"]:g}'
            if data is None:
                self.missing[title] = PUBLIC
            elif not scope:
                names = ', '.join(self.options.scopes[attack['scope']])
                self.missing[title] = f'the network has no parameters that begin with {names}'
            elif forget:
                facts = {'sets': forget, 'images': self.depth.attack_images, 'data': data, 'scope': scope}
                facts.update(lr=attack['lr'], steps=self.depth.steps, batch_size=BATCH)
                facts.update({'rank': LORA_RANK} if attack['scope'] == 'lora' else {})
                found['relearning', name, key] = self.job('attack', net, cost, **facts)
        return found

    def _scope(self, name):
        """Return the expressions of a scope that match a parameter of the network."""
        patterns = {'all': ['.*'], 'lora': ['.*'], **self.options.scopes}[name]
        return [one for one in patterns if any(re.match(one, parameter) for parameter in self.parameters)]

    def _hidden(self, name, net):
        forget, own = self.subject.sets('forget'), self.options
        if not forget:
            return {}
        facts = {'original': self.nets['original'], 'oracle': self.nets.get('oracle'), 'sets': forget}
        facts.update(images=self.depth.images, patch=self.subject.patch, public=own.public, probes=self.depth.probes)
        cost = 2 * self._looks(sets=forget) + 2 * self.depth.probes
        return {('hidden', name, ''): self.job('hidden', net, cost, encoder=own.encoder, latent=own.latent, **facts)}

    def _membership(self, name, net):
        if not self.options.heldout:
            return {}
        number = self.depth.members
        sources = {'members': self.subject.forget, 'non_members': self.options.heldout}
        cost = 2 * number * max(1.0, (self.subject.crop / self.subject.patch) ** 2)
        facts = {'sources': sources, 'images': number, 'size': self.subject.patch}
        return {('membership', name, ''): self.job('restore_pairs', net, cost, **facts)}

    def _robustness(self, name, net):
        retain, depth = self.subject.sets('retain'), self.depth
        if not retain:
            return {}
        sizes = {key: [value / 255 for value in getattr(depth, key)] for key in ('eps', 'sigmas')}
        images = sum(min(self.counts[title], depth.hard_images) for title in retain)
        cost = images * (len(depth.eps) * (3 * 5 + 10) + 8 * len(depth.sigmas))
        facts = {'sets': retain, 'images': depth.hard_images, 'patch': self.subject.patch, **sizes}
        return {('robustness', name, ''): self.job('harden', net, cost, **facts)}

    def plan(self):
        """Return what would be done, for people."""
        jobs = {job['key']: job for job in self.jobs().values()}
        pending = [job for key, job in jobs.items() if not osp.isfile(osp.join(self.pool.folder, f'{key}.json'))]
        cost = sum(job['cost'] for job in pending)
        minutes = cost * second(self.opt, self.pool.gpus) / self.pool.workers / 60 if cost else 0
        longer = '' if self.subject.quick else ', and about a quarter of an hour for the toys'
        lines = [
            f'Audit of {self.subject.name}: {len(jobs)} jobs, {len(jobs) - len(pending)} of them done, about '
            f'{minutes:.0f} min with {self.pool.workers} processes{longer}.'
        ]
        lines += [f'Left out: {title}: {why}' for title, why in self.missing.items()]
        return '\n'.join(lines)
