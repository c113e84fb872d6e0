package portrait.tests

import java.io.File
import kotlin.math.abs
import portrait.EdgeRefiner
import portrait.MaskMath
import portrait.MaskSmoother
import portrait.Shrinker
import portrait.Turn

/** docs/vectors.json: what the Python reference says, said by Kotlin. */
class VectorsTest(file: File) {
    private val vectors = Json(file.readText()).read()

    fun run(suite: Suite) {
        suite.test("vectors: shrinking") { shrinking() }
        suite.test("vectors: ties") { ties() }
        suite.test("vectors: refinement") { refinement() }
        suite.test("vectors: the tolerances notice a wrong radius and swapped colours") { damaged() }
        suite.test("vectors: smoothing") { smoothing() }
    }

    private fun shrinking() {
        val (height, width) = vectors["shrink"]["size"].floats().map { it.toInt() }
        val shrinker = Shrinker(width, height)
        for (case in vectors["shrink"]["cases"].list()) {
            val found = IntArray(width * height)
            shrinker.shrink(Picture(case["photo"]), found)
            val expected = Picture(case["resized"]).pixels
            val method = case["method"] as String
            val most = found.indices.maxOf { i ->
                listOf(16, 8, 0).maxOf { abs((found[i] shr it and 255) - (expected[i] shr it and 255)) }
            }
            same(most <= vectors["shrink"]["tolerance"][method].number(), true, "$method: off by $most")
            if (method == "linear") println("# linear is off by $most of 255")
        }
    }

    private fun ties() {
        val ties = vectors["ties"]
        val values = ties["probability"].floats()
        val bytes = ties["byte"].floats()
        for ((i, person) in ties["person"].list().withIndex()) {
            same(MaskMath.isPerson(values[i]), person, "probability ${values[i]}")
            same(MaskMath.toByte(values[i]), bytes[i].toInt(), "byte of ${values[i]}")
            same(MaskMath.isPerson(MaskMath.toByte(values[i])), person, "byte ${bytes[i]}")
        }
        val file = ties["uint8_file"]
        val scale = file["scale"].number().toFloat()
        for ((i, person) in file["person"].list().withIndex()) {
            same(MaskMath.isPerson(file["byte"].floats()[i] * scale), person, "a file's ${file["byte"].floats()[i]}")
        }
    }

    private val case get() = vectors["refine"]

    private fun refiner(radius: Int = 2, specks: Float = case["specks"].number().toFloat()) = EdgeRefiner(
        case["side"].number().toInt(), radius, case["epsilon"].number().toFloat(), 0.1f, 0.9f, specks, 0.01f,
    )

    private fun coefficients(refiner: EdgeRefiner, inputs: IntArray = Picture(case["inputs"]).pixels): EdgeRefiner.Coefficients {
        val shape = case["inputs"].list()
        return refiner.coefficients(inputs, case["probability"].floats(), shape[0].list().size, shape.size)
    }

    private fun refinement() {
        val limit = case["tolerance"]
        close(coefficients(refiner(specks = 0f)).values, "coefficients_with_specks", limit["coefficients"].number())
        val refiner = refiner()
        val found = coefficients(refiner)
        close(found.values, "coefficients", limit["coefficients"].number())
        // a second time, in the same buffers
        close(coefficients(refiner).values, "coefficients", limit["coefficients"].number())
        val photo = Picture(case["photo"])
        val plain = EdgeRefiner(16, 2, 1e-3f, 0f, 1f, 0f, 0f)
        val alpha = FloatArray(photo.width * photo.height)
        val turn = Turn(0, false, photo.width, photo.height)
        plain.alpha(found, photo, turn) { place, value -> alpha[place] = value }
        close(alpha, "alpha", limit["alpha"].number(), limit["alpha_mean"].number())
        val shaped = FloatArray(alpha.size)
        refiner.alpha(found, photo, turn) { place, value -> shaped[place] = value }
        close(shaped, "shaped", 2 * limit["alpha"].number(), limit["alpha_mean"].number())
        val bytes = ByteArray(shaped.size) { MaskMath.toByte(shaped[it]).toByte() }
        portrait.Pieces.clean(bytes, photo.width, refiner.specks, refiner.holes)
        val mask = case["mask"].floats()
        val flipped = mask.indices.count { (mask[it] > 0) != MaskMath.isPerson(bytes[it].toInt() and 255) }
        same(flipped <= limit["mask_flipped_pixels"].number(), true, "$flipped pixels flipped")
    }

    private fun damaged() {
        val expected = case["coefficients"].floats()
        val limit = case["tolerance"]["coefficients"].number()
        val swapped = Picture(case["inputs"]).pixels.map {
            (255 shl 24) or (it and 255 shl 16) or (it and 0xFF00) or (it shr 16 and 255)
        }.toIntArray()
        for (found in listOf(coefficients(refiner(radius = 1)), coefficients(refiner(), swapped))) {
            same(expected.indices.maxOf { abs(expected[it] - found.values[it]) } > 2 * limit, true, "noticed")
        }
    }

    private fun smoothing() {
        val smooth = vectors["smooth"]
        fun setting(name: String) = smooth[name].number().toFloat()
        val smoother = MaskSmoother(
            setting("keep"), setting("low"), setting("high"), setting("reach").toInt(), setting("cut"), 0.5,
        )
        for ((i, frame) in smooth["frames"].list().withIndex()) {
            val values = frame["probability"].floats()
            smoother.smooth(values, frame["probability"].list()[0].list().size, frame["time_s"].number())
            val expected = frame["smoothed"].floats()
            val most = values.indices.maxOf { abs(values[it] - expected[it]) }
            same(most <= smooth["tolerance"].number(), true, "frame $i: off by $most")
        }
    }

    private fun close(found: FloatArray, name: String, most: Double, mean: Double = most) {
        val expected = case[name].floats()
        same(found.size, expected.size, "values of $name")
        val differences = expected.indices.map { abs(expected[it] - found[it]) }
        same(differences.max() <= most && differences.average() <= mean, true, "$name: off by ${differences.max()}")
    }
}
