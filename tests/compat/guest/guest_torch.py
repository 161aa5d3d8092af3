# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
# compat: about = PyTorch: the device's name, matmul, twenty training steps of a CNN (cuDNN)
import torch
from torch import nn

print("device", torch.cuda.get_device_name())
# Everything is made on the device, so that the guest's processor has no part in the numbers.
torch.set_default_device("cuda")
torch.backends.cudnn.deterministic = True
torch.manual_seed(7)
left, right = torch.randn(2, 512, 512)
print("~1e-5 matmul", (left @ right).double().abs().sum().item())
model = nn.Sequential(
    nn.Conv2d(3, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(),
    nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(512, 10),
)
optimiser = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
images, labels = torch.randn(64, 3, 32, 32), torch.randint(0, 10, (64,))
for step in range(20):
    loss = nn.functional.cross_entropy(model(images), labels)
    optimiser.zero_grad()
    loss.backward()
    optimiser.step()
    if step % 5 == 4:
        print(f"~1e-3 loss {step + 1}", loss.item())
