package portrait

/**
 * What of the manifest the code needs; `PortraitModel.kt` is generated from it, by file.
 *
 * @property gpuFile float32 RGB in, float32 probability out.
 * @property cpuFile uint8 RGBA in, uint8 out.
 * @property cpuScale probability of one step of [cpuFile]'s output.
 * @property meanSteps greatest mean difference from a golden mask, in steps of 1/255.
 * @property flippedShare greatest share of its pixels on another side of one half.
 */
class ModelSpec(
    val name: String,
    val width: Int,
    val height: Int,
    val gpuFile: String,
    val cpuFile: String,
    val cpuScale: Float,
    val goldenPortrait: String,
    val goldenGpu: String,
    val goldenCpu: String,
    val meanSteps: Float,
    val flippedShare: Float,
    val makeRefiner: () -> EdgeRefiner,
    val makeSmoother: () -> MaskSmoother,
)
