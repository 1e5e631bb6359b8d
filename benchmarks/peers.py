"""The training steps of the workloads in PyTorch, on torch modules, without minigen.

Each is written as a PyTorch user would write it: fused Adam, one memory format for the whole
network, optionally torch.compile, on a GPU optionally one CUDA graph for the whole step. Called
with NumPy arrays they return their losses as floats; `step` takes tensors and returns tensors.
"""

import contextlib
import copy
import math

import torch
from torch import nn
from torch.nn import functional as F


class Step:
    """A memory format for images, torch.compile where asked for, and the update by a loss."""

    def __init__(self, how):
        self.how = how
        self.format = torch.channels_last if how.channels_last else torch.contiguous_format
        self.compiled = torch.compile if how.compile else lambda function: function

    def __call__(self, *arrays):
        return tuple(loss.item() for loss in self.step(*map(self.tensor, arrays)))

    def timed(self, arrays):
        """The step on these arrays as benchmarks call it; on a GPU losses are not waited for."""
        if self.how.device == "cpu":
            return lambda: self(*arrays)
        given = [self.tensor(array) for array in arrays]
        return as_graph(self.step, given) if self.how.graph else lambda: self.step(*given)

    def tensor(self, array):
        return torch.from_numpy(array).to(self.how.device)

    def image(self, tensor):
        return tensor.contiguous(memory_format=self.format)

    def adam(self, parameters, lr, betas=(0.9, 0.999)):
        graph = {"capturable": True} if self.how.graph else {}
        return torch.optim.Adam(parameters, lr=lr, betas=betas, fused=True, **graph)

    @staticmethod
    def update(optimizer, loss):
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()


def as_graph(step, given):
    """The whole step as one CUDA graph, after some ordinary ones, as PyTorch's manual says."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            step(*given)
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        losses = step(*given)

    def replay():
        graph.replay()
        return losses

    return replay


class GANStep(Step):
    """The discriminator on real and fake images, then the generator through it."""

    def __init__(self, generator, discriminator, lr, beta1, how):
        super().__init__(how)
        self.generator, self.discriminator = generator, discriminator
        self.g_optimizer = self.adam(generator.parameters(), lr, (beta1, 0.999))
        self.d_optimizer = self.adam(discriminator.parameters(), lr, (beta1, 0.999))
        self.g, self.d = self.compiled(generator), self.compiled(discriminator)

    def step(self, real, noise):
        fake = self.g(noise)

        d_loss = F.softplus(-self.d(self.image(real))).mean()
        d_loss = d_loss + F.softplus(self.d(fake.detach())).mean()
        self.update(self.d_optimizer, d_loss)

        with _frozen(self.discriminator):
            g_loss = F.softplus(-self.d(fake)).mean()
            self.g_optimizer.zero_grad(set_to_none=True)
            g_loss.backward()
        self.g_optimizer.step()
        return d_loss.detach(), g_loss.detach()


class InfoGANStep(Step):
    """The discriminator's step, then that of the generator and the recognition head."""

    def __init__(self, generator, body, judge, recognise, how):
        super().__init__(how)
        self.d_side = nn.ModuleList([body, judge])
        g_side = nn.ModuleList([generator, recognise])
        self.d_optimizer = self.adam(self.d_side.parameters(), 2e-4, (0.5, 0.999))
        self.g_optimizer = self.adam(g_side.parameters(), 1e-3, (0.5, 0.999))
        self.generator, self.body = self.compiled(generator), self.compiled(body)
        self.judge, self.recognise = judge, self.compiled(recognise)

    def step(self, real, noise, labels, codes):
        category = F.one_hot(labels, 10).to(codes.dtype)
        fake = self.generator(torch.cat([noise, category, codes], 1))

        d_loss = F.softplus(-self.judge(self.body(self.image(real)))).mean()
        d_loss = d_loss + F.softplus(self.judge(self.body(fake.detach()))).mean()
        self.update(self.d_optimizer, d_loss)

        with _frozen(self.d_side):
            features = self.body(fake)
            guess = self.recognise(features)
            missed = F.cross_entropy(guess[:, :10], labels)
            missed = missed + 0.5 * (guess[:, 10:] - codes).square().sum(1).mean()
            g_loss = F.softplus(-self.judge(features)).mean()
            self.g_optimizer.zero_grad(set_to_none=True)
            (g_loss + missed).backward()
        self.g_optimizer.step()
        return d_loss.detach(), g_loss.detach(), missed.detach()


class CriticStep(Step):
    """The critic's step of WGAN-GP (Gulrajani et al. 2017, Algorithm 1); eager always."""

    def __init__(self, critic, generator, lr, betas, weight, how):
        super().__init__(how)
        self.critic, self.generator, self.weight = critic, generator, weight
        self.optimizer = self.adam(critic.parameters(), lr, betas)

    def step(self, real, noise, mixing):
        with torch.no_grad():
            fake = self.generator(noise)
        loss, penalty = self.improve(self.image(real), fake, mixing)
        return (loss + self.weight * penalty,)

    def improve(self, real, fake, mixing):
        """One update of the critic; the critic's loss and the penalty."""
        mix = torch.lerp(fake, real, mixing).requires_grad_()
        (slope,) = torch.autograd.grad(self.critic(mix).sum(), mix, create_graph=True)
        penalty = ((slope.square().sum((1, 2, 3)).sqrt() - 1) ** 2).mean()
        loss = self.critic(fake).mean() - self.critic(real).mean()
        self.update(self.optimizer, loss + self.weight * penalty)
        return loss.detach(), penalty.detach()


class WGANGPStep(CriticStep):
    """Algorithm 1 whole: the critic's steps, then one of the generator on the last noise.

    `noise` and `mixing` have a row for each of the critic's steps, `real` a part for each.
    """

    def __init__(self, critic, generator, lr, betas, weight, how):
        super().__init__(critic, generator, lr, betas, weight, how)
        self.g_optimizer = self.adam(generator.parameters(), lr, betas)

    def step(self, real, noise, mixing):
        parts = list(zip(real.chunk(len(noise)), noise, mixing, strict=True))
        for i, (part, z, shares) in enumerate(parts, 1):
            with torch.set_grad_enabled(i == len(parts)):
                fake = self.generator(z)
            loss, penalty = self.improve(self.image(part), fake.detach(), shares)
        with _frozen(self.critic):
            g_loss = -self.critic(fake).mean()
            self.g_optimizer.zero_grad(set_to_none=True)
            g_loss.backward()
        self.g_optimizer.step()
        return loss, penalty, g_loss.detach()


class Average:
    """A copy of a network with averaged weights, by the rule of minigen.optim.EMA with `warmup`."""

    def __init__(self, network, decay):
        self.present, self.network = network, copy.deepcopy(network)
        self.decay, self.updates = decay, 0

    @torch.no_grad()
    def update(self):
        self.updates += 1
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        pairs = zip(self.network.parameters(), self.present.parameters(), strict=True)
        for average, weights in pairs:
            average.lerp_(weights, 1 - decay)
        for kept, buffer in zip(self.network.buffers(), self.present.buffers(), strict=True):
            kept.copy_(buffer)


class VAEStep(Step):
    """The negative evidence lower bound with the Bernoulli likelihood, a mean over images."""

    def __init__(self, encoder, decoder, lr, how):
        super().__init__(how)
        self.encoder, self.decoder = encoder, decoder
        self.optimizer = self.adam(nn.ModuleList([encoder, decoder]).parameters(), lr)
        self.loss = self.compiled(self._loss)

    def _loss(self, x, noise):
        mu, log_var = self.encoder(x).chunk(2, 1)
        z = mu + torch.exp(0.5 * log_var) * noise
        nll = F.binary_cross_entropy_with_logits(self.decoder(z), x, reduction="sum")
        kl = 0.5 * (mu.square() + log_var.exp() - 1 - log_var).sum()
        return (nll + kl) / len(x)

    def step(self, images, noise):
        loss = self.loss(self.image(images), noise)
        self.update(self.optimizer, loss)
        return (loss.detach(),)


class MINEStep(Step):
    """The negative Donsker-Varadhan bound."""

    def __init__(self, critic, lr, how):
        super().__init__(how)
        self.critic, self.optimizer = critic, self.adam(critic.parameters(), lr)
        self.loss = self.compiled(self._loss)

    def _loss(self, x, y, order):
        joint = self.critic(torch.cat([x, y], 1)).mean()
        marginal = self.critic(torch.cat([x, y[order]], 1))
        return torch.logsumexp(marginal, (0, 1)) - math.log(len(x)) - joint

    def step(self, x, y, order):
        loss = self.loss(x, y, order)
        self.update(self.optimizer, loss)
        return (loss.detach(),)


class DenoiserStep(Step):
    """The network predicts the noise; mean squared error."""

    def __init__(self, network, lr, how):
        super().__init__(how)
        self.optimizer = self.adam(network.parameters(), lr)
        self.network = self.compiled(network)

    def step(self, clean, noise):
        clean, noise = self.image(clean), self.image(noise)
        loss = F.mse_loss(self.network(clean + noise), noise)
        self.update(self.optimizer, loss)
        return (loss.detach(),)


class UNetTwin(nn.Module):
    """The forward pass of workloads.pictures.UNet."""

    def __init__(self, downs, ups, merges, pool, out):
        super().__init__()
        self.downs, self.ups, self.merges, self.pool, self.out = downs, ups, merges, pool, out

    def forward(self, x):
        skips = []
        for down in self.downs[:-1]:
            skips.append(down(x))
            x = self.pool(skips[-1])
        x = self.downs[-1](x)
        for up, merge, skip in zip(self.ups, self.merges, reversed(skips), strict=True):
            x = merge(torch.cat([skip, up(x)], 1))
        return self.out(x)


class RestorationStep(Step):
    """From degraded images to clean ones, mean absolute error."""

    def __init__(self, network, lr, how):
        super().__init__(how)
        self.optimizer = self.adam(network.parameters(), lr)
        self.network = self.compiled(network)

    def step(self, noisy, clean):
        loss = F.l1_loss(self.network(self.image(noisy)), self.image(clean))
        self.update(self.optimizer, loss)
        return (loss.detach(),)


class StyleStep(Step):
    """One iteration on the image: features, content and Gram losses, gradient, Adam."""

    def __init__(
        self, network, content, style_weight, image, content_image, style_image, lr,
        how,
    ):  # fmt: skip
        super().__init__(how)
        self.network, self.content, self.style_weight = network, content, style_weight
        image, content_image, style_image = map(self.tensor, (image, content_image, style_image))
        self.picture = nn.Parameter(self.image(image).clone(memory_format=self.format))
        self.optimizer = self.adam([self.picture], lr)
        self.losses = self.compiled(self._losses)
        with torch.no_grad():
            self.content_target = self._features(self.image(content_image))[content]
            self.style_targets = self._grams(self._features(self.image(style_image)))

    def _features(self, x):
        found = []
        for part in self.network:
            x = part(x)
            found.append(x)
        return found

    def _grams(self, features):
        flat = [x.flatten(2) for i, x in enumerate(features) if i != self.content]
        return [x @ x.transpose(1, 2) / x[0].numel() for x in flat]

    def _losses(self, picture):
        features = self._features(picture)
        content = F.mse_loss(features[self.content], self.content_target)
        pairs = zip(self._grams(features), self.style_targets, strict=True)
        return content, sum(F.mse_loss(gram, target) for gram, target in pairs)

    def step(self):
        content, style = self.losses(self.picture)
        self.update(self.optimizer, content + self.style_weight * style)
        return content.detach(), style.detach()


@contextlib.contextmanager
def _frozen(network):
    """Inside, no gradients are computed for the network's parameters."""
    for p in network.parameters():
        p.requires_grad_(False)
    try:
        yield
    finally:
        for p in network.parameters():
            p.requires_grad_(True)
