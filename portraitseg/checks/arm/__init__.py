"""Whether phones' processors take a .tflite: LiteRT's AArch64 build in an emulator, its kernels and instructions."""
