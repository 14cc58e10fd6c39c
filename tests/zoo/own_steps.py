"""Models with a train_step of their own, and the same gradients by plain tapes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import layers, ops

from tests.support.by_hand import normal
from tests.zoo.exam import Exam

Part = tuple[Callable[[], Any], list[Any], Any]  # a loss, the weights it is for, their optimizer


def dense(*units: int, inputs: int, last: str | None = None, **kwargs: Any) -> keras.Sequential:
    hidden = [layers.Dense(n, "relu") for n in units[:-1]]
    return keras.Sequential(
        [keras.Input((inputs,)), *hidden, layers.Dense(units[-1], last)], **kwargs
    )


class OwnStep(keras.Model):
    """One step is the losses of `parts`, one after the other, each by its own optimizer."""

    def __init__(self, **parts: Any):
        super().__init__()
        for name, part in parts.items():
            setattr(self, name, part)
        self.seeds = keras.random.SeedGenerator(3)
        self.tracker = keras.metrics.Mean(name="loss")
        self.names = list(parts)
        self.prepare()

    def prepare(self) -> None:
        """Build what is built by the first call."""

    def parts(self, data: Any) -> Iterator[Part]:
        raise NotImplementedError

    def normal(self, *shape: int) -> Any:
        return keras.random.normal(shape, seed=self.seeds)

    def train_step(self, data):
        total = 0.0
        for loss_of, weights, optimizer in self.parts(data):
            with tf.GradientTape() as tape:
                loss = loss_of()
            optimizer.apply_gradients(zip(tape.gradient(loss, weights), weights, strict=True))
            total += loss
        self.tracker.update_state(total)
        return {"loss": self.tracker.result()}


def by_tapes(model: OwnStep, x: Any, y: Any) -> list[Any]:
    """The last gradient of every weight, without train_step and without an optimizer."""
    found: dict[int, Any] = {}
    for loss_of, weights, _ in model.parts(x if y is None else (x, y)):
        with tf.GradientTape() as tape:
            loss = loss_of()
        found |= dict(zip(map(id, weights), tape.gradient(loss, weights), strict=True))
    return [found.get(id(v)) for v in model.trainable_weights]


def exam(model: OwnStep, x: Any, y: Any = None, **optimizers: str) -> Exam:
    model.compile("adam")
    for name, kind in optimizers.items():
        setattr(model, name, keras.optimizers.get(kind))
    return Exam(model, x, y, reference=by_tapes)


_bce = keras.losses.BinaryCrossentropy(from_logits=True)


def _images() -> tuple[keras.Model, keras.Model]:
    generator = keras.Sequential(
        [
            keras.Input((6,)),
            layers.Dense(4 * 4 * 16),
            layers.BatchNormalization(),
            layers.LeakyReLU(),
            layers.Reshape((4, 4, 16)),
            layers.Conv2DTranspose(8, 4, 2, "same"),
            layers.LeakyReLU(),
            layers.Conv2DTranspose(1, 4, 2, "same", activation="tanh"),
        ],
        name="generator",
    )
    critic = keras.Sequential(
        [
            keras.Input((16, 16, 1)),
            layers.Conv2D(8, 4, 2, "same"),
            layers.LeakyReLU(),
            layers.Dropout(0.2),
            layers.Conv2D(16, 4, 2, "same"),
            layers.LeakyReLU(),
            layers.Flatten(),
            layers.Dense(1),
        ],
        name="discriminator",
    )
    return generator, critic


class Gan(OwnStep):
    def parts(self, data):
        n = len(data)

        def judge():
            fake = self.generator(self.normal(n, 6), training=True)
            real, made = (self.critic(i, training=True) for i in (data, fake))
            return _bce(ops.ones((n, 1)), real) + _bce(ops.zeros((n, 1)), made)

        def forge():
            fake = self.generator(self.normal(n, 6), training=True)
            return _bce(ops.ones((n, 1)), self.critic(fake, training=True))

        yield judge, self.critic.trainable_weights, self.judging
        yield forge, self.generator.trainable_weights, self.forging


def gan() -> Exam:
    generator, critic = _images()
    model = Gan(generator=generator, critic=critic)
    return exam(model, np.tanh(normal(8, 16, 16, 1)), judging="adam", forging="rmsprop")


class WassersteinGan(Gan):
    def parts(self, data):
        n = len(data)

        def judge():
            fake = self.generator(self.normal(n, 6), training=True)
            mixed = 0.5 * (data + fake)
            with tf.GradientTape() as tape:
                tape.watch(mixed)
                judged = self.critic(mixed)
            slope = ops.sqrt(ops.sum(tape.gradient(judged, mixed) ** 2, (1, 2, 3)) + 1e-12)
            gap = ops.mean(self.critic(fake)) - ops.mean(self.critic(data))
            return gap + 10.0 * ops.mean((slope - 1.0) ** 2)

        def forge():
            return -ops.mean(self.critic(self.generator(self.normal(n, 6), training=True)))

        for _ in range(2):
            yield judge, self.critic.trainable_weights, self.judging
        yield forge, self.generator.trainable_weights, self.forging


def wgan_gp() -> Exam:
    generator, critic = _images()
    model = WassersteinGan(generator=generator, critic=critic)
    return exam(model, np.tanh(normal(8, 16, 16, 1)), judging="adam", forging="adam")


class CycleGan(OwnStep):
    def parts(self, data):
        x, y = data

        def translate():
            there, back = self.there(x), self.back(y)
            cycle = ops.mean(abs(self.back(there) - x)) + ops.mean(abs(self.there(back) - y))
            fooled = ops.mean((self.of_y(there) - 1) ** 2) + ops.mean((self.of_x(back) - 1) ** 2)
            return fooled + 10.0 * cycle

        def tell(critic, real, made):
            return lambda: ops.mean((critic(real) - 1) ** 2) + ops.mean(critic(made) ** 2)

        both = self.there.trainable_weights + self.back.trainable_weights
        yield translate, both, self.translating
        yield tell(self.of_x, x, self.back(y)), self.of_x.trainable_weights, self.of_x_by
        yield tell(self.of_y, y, self.there(x)), self.of_y.trainable_weights, self.of_y_by


def cycle_gan() -> Exam:
    parts = {name: dense(8, 4, inputs=4, name=name) for name in ("there", "back")}
    parts |= {name: dense(8, 1, inputs=4, name=name) for name in ("of_x", "of_y")}
    return exam(
        CycleGan(**parts), normal(8, 4), normal(8, 4, seed=1),
        translating="adam", of_x_by="adam", of_y_by="sgd",
    )  # fmt: skip


class Vae(OwnStep):
    def parts(self, data):
        def loss():
            mean, log_variance = ops.split(self.encoder(data), 2, axis=-1)
            z = mean + ops.exp(0.5 * log_variance) * self.normal(*mean.shape)
            kl = -0.5 * (1 + log_variance - mean**2 - ops.exp(log_variance))
            error = keras.losses.binary_crossentropy(data, self.decoder(z))
            return ops.mean(error) * data.shape[-1] + ops.mean(ops.sum(kl, -1))

        yield loss, self.trainable_weights, self.optimizer


def vae() -> Exam:
    parts = {"encoder": dense(16, 4, inputs=12), "decoder": dense(16, 12, inputs=2, last="sigmoid")}
    return exam(Vae(**parts), (normal(16, 12) > 0).astype("float32"))


class Diffusion(OwnStep):
    """Predicts the noise; a second network follows the first by moving averages."""

    def parts(self, data):
        n = len(data)
        rate = keras.random.uniform((n, 1), seed=self.seeds)
        noise = self.normal(*data.shape)
        noisy = ops.sqrt(rate) * data + ops.sqrt(1 - rate) * noise
        together = ops.concatenate([noisy, rate], -1)
        yield (
            lambda: ops.mean(abs(noise - self.network(together))),
            self.network.trainable_weights,
            self.optimizer,
        )

    def train_step(self, data):
        logs = super().train_step(data)
        for slow, fast in zip(self.average.weights, self.network.weights, strict=True):
            slow.assign(0.9 * slow + 0.1 * fast)
        return logs


def diffusion() -> Exam:
    network, average = (dense(16, 16, 8, inputs=9) for _ in range(2))
    average.trainable = False
    return exam(Diffusion(network=network, average=average), normal(16, 8))


class Dqn(OwnStep):
    def parts(self, data):
        states, actions, rewards, after = (data[k] for k in ("state", "action", "reward", "next"))
        best = ops.max(self.target(after), axis=1)
        taken = ops.one_hot(actions, 3)
        huber = keras.losses.Huber()
        yield (
            lambda: huber(rewards + 0.99 * best, ops.sum(self.online(states) * taken, 1)),
            self.online.trainable_weights,
            self.optimizer,
        )


def dqn() -> Exam:
    online, target = (dense(16, 16, 3, inputs=4) for _ in range(2))
    target.trainable = False
    rng = np.random.default_rng(0)
    moves = {
        "state": normal(16, 4),
        "action": rng.integers(0, 3, 16),
        "reward": normal(16, seed=2),
        "next": normal(16, 4, seed=3),
    }
    return exam(Dqn(online=online, target=target), moves)


class ActorCritic(OwnStep):
    def parts(self, data):
        states, returns = data

        def loss():
            hidden = self.trunk(states)
            log_policy, value = ops.log_softmax(self.actor(hidden)), self.critic(hidden)[:, 0]
            advantage = ops.stop_gradient(returns - value)
            return ops.mean((returns - value) ** 2) - ops.mean(log_policy[:, 0] * advantage)

        yield loss, self.trainable_weights, self.optimizer


def actor_critic() -> Exam:
    parts = {"trunk": dense(16, inputs=4, last="relu")}
    parts |= {"actor": dense(2, inputs=16), "critic": dense(1, inputs=16)}
    return exam(ActorCritic(**parts), normal(16, 4), normal(16, seed=1))


class Contrastive(OwnStep):
    """SimCLR: two noisy views of a sample shall be each other's nearest."""

    def parts(self, data):
        def loss():
            views = [data + 0.1 * self.normal(*data.shape) for _ in range(2)]
            a, b = (ops.normalize(self.head(self.encoder(v)), axis=1) for v in views)
            similar = ops.matmul(a, ops.transpose(b)) / 0.5
            labels = ops.arange(len(data))
            each = keras.losses.sparse_categorical_crossentropy(labels, similar, from_logits=True)
            return ops.mean(each)

        yield loss, self.trainable_weights, self.optimizer


def contrastive() -> Exam:
    parts = {"encoder": dense(32, 16, inputs=8, last="relu"), "head": dense(16, 8, inputs=16)}
    return exam(Contrastive(**parts), normal(16, 8))


class Triplet(OwnStep):
    """Siamese: one tower for anchor, positive and negative."""

    def parts(self, data):
        def loss():
            anchor, positive, negative = (self.tower(data[:, i]) for i in range(3))
            near, far = (ops.sum((anchor - o) ** 2, -1) for o in (positive, negative))
            return ops.mean(ops.maximum(near - far + 0.5, 0.0))

        yield loss, self.tower.trainable_weights, self.optimizer


def triplet() -> Exam:
    return exam(Triplet(tower=dense(16, 16, 4, inputs=6)), normal(12, 3, 6))


class Distillation(OwnStep):
    def parts(self, data):
        x, y = data
        soft = ops.softmax(self.teacher(x) / 3.0)

        def loss():
            logits = self.student(x)
            hard = keras.losses.sparse_categorical_crossentropy(y, logits, from_logits=True)
            gap = keras.losses.kl_divergence(soft, ops.softmax(logits / 3.0))
            return 0.1 * ops.mean(hard) + 0.9 * 9.0 * ops.mean(gap)

        yield loss, self.student.trainable_weights, self.optimizer


def distillation() -> Exam:
    teacher, student = dense(32, 32, 4, inputs=8), dense(8, 4, inputs=8)
    teacher.trainable = False
    labels = np.random.default_rng(0).integers(0, 4, 16)
    return exam(Distillation(teacher=teacher, student=student), normal(16, 8), labels)


class RealNvp(OwnStep):
    """Affine coupling: half of the entries scale and shift the other half."""

    def parts(self, data):
        def loss():
            z, log_det = data, 0.0
            for n, net in enumerate(self.couplings):
                kept, moved = (z[:, :2], z[:, 2:]) if n % 2 else (z[:, 2:], z[:, :2])
                scale, shift = ops.split(net(kept), 2, axis=-1)
                moved = moved * ops.exp(ops.tanh(scale)) + shift
                z = ops.concatenate([kept, moved] if n % 2 else [moved, kept], -1)
                log_det += ops.sum(ops.tanh(scale), -1)
            return ops.mean(0.5 * ops.sum(z**2, -1) - log_det)

        yield loss, self.trainable_weights, self.optimizer


def real_nvp() -> Exam:
    return exam(RealNvp(couplings=[dense(16, 4, inputs=2) for _ in range(4)]), normal(16, 4))


OWN_STEPS = {
    "GAN (DCGAN)": gan,
    "WGAN with gradient penalty": wgan_gp,
    "CycleGAN, three optimizers": cycle_gan,
    "VAE": vae,
    "denoising diffusion with moving averages": diffusion,
    "DQN with target network": dqn,
    "actor-critic": actor_critic,
    "contrastive (SimCLR)": contrastive,
    "Siamese, triplet loss": triplet,
    "distillation": distillation,
    "normalising flow (RealNVP)": real_nvp,
}
