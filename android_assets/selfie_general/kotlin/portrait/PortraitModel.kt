package portrait

// Generated from manifest.json by `python -m export handout`; a change here is lost, and check-assets notices it.
object PortraitModel {
    @JvmField
    val SPEC = ModelSpec(
        name = "selfie_general",
        width = 256,
        height = 256,
        gpuFile = "selfie_general-256x256-rgb-fp16.tflite",
        cpuFile = "selfie_general-256x256-rgba-qat_wi8_ai8_u8.tflite",
        cpuScale = 0.00390625f,
        goldenPortrait = "golden/portrait.png",
        goldenGpu = "golden/selfie_general-256x256-rgb-fp16.tflite.png",
        goldenCpu = "golden/selfie_general-256x256-rgba-qat_wi8_ai8_u8.tflite.png",
        meanSteps = 4.0f,
        flippedShare = 0.01f,
        makeRefiner = {
            EdgeRefiner(
                side = 128,
                radius = 1,
                epsilon = 0.003f,
                low = 0.25f,
                high = 0.75f,
                specks = 0.002f,
                holes = 0.0005f,
            )
        },
        makeSmoother = {
            MaskSmoother(
                keep = 0.95f,
                low = 0.1f,
                high = 0.5f,
                reach = 4,
                cut = 0.2f,
                gapS = 0.5,
            )
        },
    )
}
