"""A measure: one number of each network, its thresholds, and whether it can tell anything.

It is informative only where it tells the original from the oracle: the oracle (and a second one, where there is one)
must get green, and the original must not, where the question is one that it should fail. What cannot tell them apart
says nothing of the unlearned network either, and is grey.
"""

from basicsr_unlearn.audit_options import LIMITS

GREEN, AMBER, RED, GREY = 'green', 'amber', 'red', 'grey'
ORDER = (GREY, GREEN, AMBER, RED)
NO_ORACLE = 'n/a: no oracle was given (path: pretrain_network_oracle)'
LEAD = {  # of the original over the oracle, below which a measure says nothing
    'relearn': 1.0,  # dB
    'swap': 1.0,  # dB
    'agreement': 0.005,  # of the range of the pictures
    'probe_type': 0.1,
    'probe_strength': 0.2,
    'auc': 0.25,
    'u_lira': 0.25,
}


class Measure:
    """One number of each network, and what it says.

    Args:
        key (str): Of LIMITS.
        name (str): For people.
        values (dict): `{net: number or None}`.
        limits (dict): Over LIMITS.
        unit (str): Of the values, such as `dB`. Default: none.
        digits (int): After the point. Default: 2.
        base (float): What to compare with, where it is not the oracle's value. Default: the oracle's value.
        sided (bool): Only what is above it counts; else both ways. Default: True.
        share (bool): The limits are shares of the original's lead over the oracle. Default: False.
        must_fail (bool): The original must not get green. Default: True.
        missing (str): Why it cannot be judged. Default: it can.
    """

    def __init__(self, key, name, values, limits, **facts):
        self.key, self.name = key, name
        self.values = {net: value for net, value in values.items() if value is not None}
        self.unit, self.digits = facts.get('unit', ''), facts.get('digits', 2)
        self.sided, self.share = facts.get('sided', True), facts.get('share', False)
        self.compares_with_oracle = facts.get('base') is None
        self.base = self.values.get('oracle') if self.compares_with_oracle else facts['base']
        self.own_limits = limits.get(key, LIMITS.get(key))
        self.limits = None
        self.light, self.remark = self._judge(facts.get('must_fail', True), facts.get('missing'))

    def _judge(self, must_fail, missing):
        if missing:
            return GREY, missing
        if 'unlearned' not in self.values:
            return GREY, 'n/a: not measured'
        if self.base is None:
            return GREY, NO_ORACLE
        lead = abs(self.values.get('original', self.base) - self.base)
        self.limits = [limit * lead for limit in self.own_limits] if self.share else list(self.own_limits)
        lights = {net: self._light(value) for net, value in self.values.items()}
        if must_fail and (lead < LEAD.get(self.key, 0) or lights.get('original') == GREEN):
            return GREY, 'not informative: it does not tell the original from the oracle'
        if lights.get('oracle_2', GREEN) != GREEN:
            return GREY, 'not informative: a second oracle fails it too'
        return lights['unlearned'], ''

    def _light(self, value):
        distance = max(value - self.base, 0.0) if self.sided else abs(value - self.base)
        return GREEN if distance <= self.limits[0] else AMBER if distance <= self.limits[1] else RED

    @property
    def rule(self):
        """The thresholds in words."""
        if self.own_limits is None:
            return ''
        low, high = self.own_limits
        if self.share:
            return f"green up to {low:.0%} of the original's lead over the oracle, red above {high:.0%}"
        unit = f' {self.unit}' if self.unit else ''
        if self.compares_with_oracle:
            return f'green up to {low:g}{unit} {"above" if self.sided else "from"} the oracle, red beyond {high:g}'
        return f'green up to {low:g}{unit}, red above {high:g}'

    def entry(self):
        """Return what audit.json says of it."""
        fields = ('key', 'name', 'unit', 'values', 'digits', 'limits', 'rule', 'light', 'remark')
        return {field: getattr(self, field) for field in fields}
