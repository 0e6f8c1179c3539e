"""The plain twins of the networks: the papers' formulas in the order of the published code, written the obvious way.

LayerNorm in its five operations, normalised copies of queries and keys, a prompt tensor for every image, a loop over
images in AdaIR's frequency block, the memory layout that the image has. benchmark_networks.py compares with them, and
the tests check that the package's networks compute the same.
"""

import torch
from torch.nn import functional as F

import basicsr_unlearn  # noqa: F401
from basicsr_unlearn.archs import adair_arch, blocks, nafnet_arch, promptir_arch, restormer_arch


class PlainLayerNorm(blocks.LayerNorm):
    def forward(self, x):
        n, c, h, w = x.shape
        x = x.permute(0, 2, 3, 1).reshape(n, h * w, c)
        mean = x.mean(-1, keepdim=True)
        variance = x.var(-1, keepdim=True, unbiased=False)
        if self.body.bias is None:
            x = x / torch.sqrt(variance + 1e-5) * self.body.weight
        else:
            x = (x - mean) / torch.sqrt(variance + 1e-5) * self.body.weight + self.body.bias
        return x.reshape(n, h, w, c).permute(0, 3, 1, 2)


def plain_attention(q, k, v, temperature):
    n, c, h, w = q.shape
    heads = len(temperature)
    q, k, v = (x.reshape(n, heads, c // heads, h * w) for x in (q, k, v))
    q, k = F.normalize(q, dim=-1), F.normalize(k, dim=-1)
    weights = ((q @ k.transpose(-2, -1)) * temperature).softmax(dim=-1)
    return (weights @ v).reshape(n, c, h, w)


class PlainAttention(blocks.Attention):
    def forward(self, x):
        q, k, v = self.qkv_dwconv(self.qkv(x)).chunk(3, dim=1)
        return self.project_out(plain_attention(q, k, v, self.temperature))


class PlainFeedForward(blocks.FeedForward):
    def forward(self, x):
        gate, value = self.dwconv(self.project_in(x)).chunk(2, dim=1)
        return self.project_out(F.gelu(gate) * value)


class PlainPatchEmbed(blocks.PatchEmbed):
    def forward(self, x):
        return self.proj(x)


class PlainDownsample(blocks.Downsample):
    def forward(self, x):
        return self.body(x)


class PlainUpsample(blocks.Upsample):
    def forward(self, x):
        return self.body(x)


class PlainPromptGenBlock(promptir_arch.PromptGenBlock):
    def forward(self, x):
        weights = self.linear_layer(x.mean(dim=(-2, -1))).softmax(dim=1)
        prompts = self.prompt_param.unsqueeze(0).repeat(len(x), 1, 1, 1, 1, 1).squeeze(1)
        prompt = (weights[:, :, None, None, None] * prompts).sum(dim=1)
        return self.conv3x3(F.interpolate(prompt, x.shape[-2:], mode='bilinear'))


class PlainChannelCrossAttention(adair_arch.ChannelCrossAttention):
    def forward(self, x, y):
        k, v = self.kv_dwconv(self.kv(y)).chunk(2, dim=1)
        return self.project_out(plain_attention(self.q_dwconv(self.q(x)), k, v, self.temperature))


class PlainFreModule(adair_arch.FreModule):
    def split_frequencies(self, z):
        n, c, h, w = z.shape
        mask = torch.zeros_like(z)
        rate = self.rate_conv(F.adaptive_avg_pool2d(z, 1)).sigmoid()
        for number in range(n):
            half_h = (h // 128 * rate[number, 0, 0, 0]).int()
            half_w = (w // 128 * rate[number, 1, 0, 0]).int()
            mask[number, :, h // 2 - half_h : h // 2 + half_h, w // 2 - half_w : w // 2 + half_w] = 1
        shift = (h // 2, w // 2)
        spectrum = torch.roll(torch.fft.fft2(z, norm='forward'), shift, dims=(2, 3))
        parts = []
        for chosen in (mask, 1 - mask):
            part = torch.roll(spectrum * chosen, (-shift[0], -shift[1]), dims=(2, 3))
            parts.append(torch.abs(torch.fft.ifft2(part, norm='forward')))
        return parts


class _ChannelNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, weight, bias):
        mean = x.mean(1, keepdim=True)
        variance = (x - mean).pow(2).mean(1, keepdim=True)
        y = (x - mean) / (variance + 1e-6).sqrt()
        ctx.save_for_backward(y, variance, weight)
        return weight.view(1, -1, 1, 1) * y + bias.view(1, -1, 1, 1)

    @staticmethod
    def backward(ctx, grad):
        y, variance, weight = ctx.saved_tensors
        scaled = grad * weight.view(1, -1, 1, 1)
        mean, mean_y = scaled.mean(1, keepdim=True), (scaled * y).mean(1, keepdim=True)
        grad_x = 1.0 / torch.sqrt(variance + 1e-6) * (scaled - y * mean_y - mean)
        return grad_x, (grad * y).sum(dim=(0, 2, 3)), grad.sum(dim=(0, 2, 3))


class PlainLayerNorm2d(nafnet_arch.LayerNorm2d):
    def forward(self, x):
        return _ChannelNorm.apply(x, self.weight, self.bias)


class PlainNAFNet(nafnet_arch.NAFNet):
    def forward(self, x):
        height, width = x.shape[-2:]
        image = F.pad(x, (0, -width % self.size_multiple, 0, -height % self.size_multiple))
        y, skips = self.intro(image), []
        for encoder, down in zip(self.encoders, self.downs, strict=True):
            y = encoder(y)
            skips.append(y)
            y = down(y)
        y = self.middle_blks(y)
        for decoder, up, skip in zip(self.decoders, self.ups, skips[::-1], strict=True):
            y = decoder(up(y) + skip)
        return (self.ending(y) + image)[..., :height, :width]


class _HoldsLevels:
    """The published forward passes name the features of all levels, and so hold them to the end."""

    def encode(self, x):
        skips, y = super().encode(x)
        self.held = list(skips)
        return skips, y


class PlainPromptIR(_HoldsLevels, promptir_arch.PromptIR):
    pass


class PlainAdaIR(_HoldsLevels, adair_arch.AdaIR):
    pass


class PlainRestormer(_HoldsLevels, restormer_arch.Restormer):
    pass


PLAIN = {cls.__bases__[-1]: cls for cls in (
    PlainLayerNorm,
    PlainAttention,
    PlainFeedForward,
    PlainPatchEmbed,
    PlainDownsample,
    PlainUpsample,
    PlainPromptGenBlock,
    PlainChannelCrossAttention,
    PlainFreModule,
    PlainLayerNorm2d,
    PlainNAFNet,
    PlainPromptIR,
    PlainAdaIR,
    PlainRestormer,
)}  # fmt: skip


def make_plain(net):
    """Turn a network of the package into its plain twin, in place; the weights stay."""
    for module in net.modules():
        module.__class__ = PLAIN.get(type(module), type(module))
    return net
