"""Sizes that gconv and its peer are timed at."""

# name: x, w, stride, pad
CONVOLUTIONS = {
    "7x7, 3 to 32, 32x32, batch 50": ((50, 3, 32, 32), (32, 3, 7, 7), 1, 3),
    "3x3, 64 to 64, 32x32, batch 128": ((128, 64, 32, 32), (64, 64, 3, 3), 1, 1),
    "3x3, 128 to 256, 16x16, batch 128": ((128, 128, 16, 16), (256, 128, 3, 3), 1, 1),
    "3x3 stride 2, 64 to 128, 32x32, batch 128": ((128, 64, 32, 32), (128, 64, 3, 3), 2, 1),
    "1x1, 128 to 256, 16x16, batch 128": ((128, 128, 16, 16), (256, 128, 1, 1), 1, 0),
}
STEPS = (50, 100, 500)
LARGE = (512, 64, 64, 64)  # 512 MB in float32, several times an H200's 60 MB of L2
SETS = 4  # input sets that are used in turn, so that the cache does not hold what comes next
