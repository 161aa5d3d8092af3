# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
# compat: about = JAX: jit, grad, scan, convolution, random
import os

os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
import jax
import jax.numpy as jnp

print([device.platform for device in jax.devices()])
matrix = jax.random.normal(jax.random.key(1), (256, 256))
print("~1e-5 jit", float(jax.jit(lambda x: (x @ x).sum())(matrix)))
print("~1e-5 grad", float(jnp.abs(jax.grad(lambda x: jnp.tanh(x @ x).sum())(matrix)).sum()))
print("scan", int(jax.lax.scan(lambda total, x: (total + x, total), 0, jnp.arange(1000))[0]))
image = jax.random.normal(jax.random.key(2), (4, 3, 32, 32))
filters = jax.random.normal(jax.random.key(3), (8, 3, 3, 3))
print("~1e-4 convolution", float(jnp.abs(jax.lax.conv(image, filters, (1, 1), "SAME")).sum()))
print("sort", float(jnp.sort(matrix.ravel())[100]))
print("~1e-5 cholesky", float(jnp.linalg.cholesky(matrix @ matrix.T + 100 * jnp.eye(256)).sum()))
