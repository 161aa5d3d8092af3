# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
# compat: about = PyTorch: training of a CNN (cuDNN) and a transformer, AMP, pinned loader with worker processes
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.backends.cudnn.deterministic = True
torch.use_deterministic_algorithms(True, warn_only=True)


def train(name, model, data, amp):
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-3)
    scaler = torch.amp.GradScaler("cuda", enabled=amp)
    loader = DataLoader(data, batch_size=32, num_workers=2, pin_memory=True)
    for _ in range(2):
        for inputs, targets in loader:
            inputs, targets = inputs.cuda(non_blocking=True), targets.cuda(non_blocking=True)
            with torch.autocast("cuda", dtype=torch.float16, enabled=amp):
                loss = nn.functional.cross_entropy(model(inputs), targets)
            optimiser.zero_grad()
            scaler.scale(loss).backward()
            scaler.step(optimiser)
            scaler.update()
    print(f"~{'2e-2' if amp else '1e-4'} {name}", float(loss.detach()))


class Transformer(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Linear(64, 128)
        layer = nn.TransformerEncoderLayer(128, 4, 256, dropout=0, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2)
        self.head = nn.Linear(128, 10)

    def forward(self, inputs):
        return self.head(self.encoder(self.embed(inputs)).mean(1))


if __name__ == "__main__":
    for amp in (False, True):
        torch.manual_seed(3)
        images = TensorDataset(torch.randn(256, 3, 32, 32), torch.randint(0, 10, (256,)))
        cnn = nn.Sequential(
            nn.Conv2d(3, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(512, 10),
        ).cuda()
        train("cnn amp" if amp else "cnn", cnn, images, amp)
        torch.manual_seed(3)
        texts = TensorDataset(torch.randn(256, 50, 64), torch.randint(0, 10, (256,)))
        train("transformer amp" if amp else "transformer", Transformer().cuda(), texts, amp)
