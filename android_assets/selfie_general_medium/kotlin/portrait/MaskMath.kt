package portrait

import kotlin.math.abs
import kotlin.math.ceil
import kotlin.math.floor
import kotlin.math.max
import kotlin.math.min
import kotlin.math.roundToInt

/** What a probability means, everywhere the same: exactly one half is background. Nothing here knows Android. */
object MaskMath {
    /** Whether a probability is person. */
    fun isPerson(probability: Float): Boolean = probability > 0.5f

    /** Whether a byte of a mask, 0 to 255, is person. */
    fun isPerson(byte: Int): Boolean = byte > 127

    /** The nearest of 0 to 255; of two as near, the lower, so that one half stays background. */
    fun toByte(probability: Float): Int = ceil(probability.coerceIn(0f, 1f) * 255f - 0.5f).toInt()

    /** Clears haze: 0 below [low], 1 above [high], the smooth step between. One half stays one half. */
    fun shape(alpha: Float, low: Float, high: Float): Float {
        if (low <= 0f && high >= 1f) return alpha
        return step((alpha - low) * (1.0 / (high.toDouble() - low)).toFloat())
    }

    /** The smooth step 3t² - 2t³ of t cut to 0 to 1. */
    internal fun step(value: Float): Float {
        val t = value.coerceIn(0f, 1f)
        return t * t * (3f - 2f * t)
    }

    /** How far two masks in bytes are apart: mean difference in steps of 1/255, and share on another side of one half. */
    fun difference(expected: ByteArray, found: ByteArray): Pair<Float, Float> {
        require(expected.size == found.size) { "masks of ${expected.size} and ${found.size} pixels" }
        var total = 0L
        var flipped = 0
        for (i in expected.indices) {
            val one = expected[i].toInt() and 255
            val other = found[i].toInt() and 255
            total += abs(one - other)
            if (isPerson(one) != isPerson(other)) flipped++
        }
        return Pair(total.toFloat() / expected.size, flipped.toFloat() / expected.size)
    }
}

/** Places between pixels: [to] pixels over [from], bilinear, centres on centres, edges repeated. */
internal class Stretch(val from: Int, val to: Int) {
    val first = IntArray(to)
    val second = IntArray(to)
    val fraction = FloatArray(to)

    init {
        val scale = from.toDouble() / to
        for (i in 0 until to) {
            val at = ((i + 0.5) * scale - 0.5).toFloat()
            val left = floor(at).toInt()
            first[i] = left.coerceIn(0, from - 1)
            second[i] = (left + 1).coerceIn(0, from - 1)
            fraction[i] = at - left
        }
    }
}

/**
 * Steadier masks of a video: the previous mask counts where the new one nearly agrees with it around a pixel.
 *
 * One for each video. The numbers are those of the manifest's `smooth`; [gapS] is in seconds, [reach] in pixels of the
 * network.
 */
class MaskSmoother(
    val keep: Float,
    val low: Float,
    val high: Float,
    val reach: Int,
    val cut: Float,
    val gapS: Double,
) {
    private var last = FloatArray(0)
    private var lastWidth = 0
    private var lastS: Double? = null
    private var distance = FloatArray(0)
    private var widest = FloatArray(0)

    init {
        require(keep >= 0 && keep < 1 && low >= 0 && low < high && reach >= 0 && cut > 0 && gapS > 0) {
            "keep $keep, low $low, high $high, reach $reach, cut $cut, gapS $gapS"
        }
    }

    /** Smooths [probability], rows of [width], in place. [timeS]: of the frame; after a gap it begins anew. */
    fun smooth(probability: FloatArray, width: Int, timeS: Double? = null) {
        if (last.size != probability.size || lastWidth != width) {
            distance = FloatArray(probability.size)
            widest = FloatArray(probability.size)
            last = probability.copyOf()
            lastWidth = width
        } else if (!isApart(timeS)) {
            mix(probability, width)
        }
        probability.copyInto(last)
        lastS = timeS
    }

    /** Forgets the previous frame: another video, another camera. */
    fun reset() {
        last = FloatArray(0)
        lastS = null
    }

    private fun isApart(timeS: Double?): Boolean {
        val before = lastS
        return timeS != null && before != null && (timeS < before || timeS - before > gapS)
    }

    private fun mix(probability: FloatArray, width: Int) {
        var total = 0.0
        for (i in probability.indices) {
            distance[i] = abs(last[i] - probability[i])
            total += distance[i]
        }
        if (total / probability.size > cut) return
        greatest(width, probability.size / width)
        val scale = (1.0 / (high.toDouble() - low)).toFloat()
        for (i in probability.indices) {
            val weight = keep * (1f - MaskMath.step((distance[i] - low) * scale))
            probability[i] += (last[i] - probability[i]) * weight
        }
    }

    /** The greatest distance within [reach] of each pixel, both ways. */
    private fun greatest(width: Int, height: Int) {
        for (y in 0 until height) for (x in 0 until width) {
            var found = 0f
            for (i in max(0, x - reach)..min(width - 1, x + reach)) found = max(found, distance[y * width + i])
            widest[y * width + x] = found
        }
        for (y in 0 until height) for (x in 0 until width) {
            var found = 0f
            for (i in max(0, y - reach)..min(height - 1, y + reach)) found = max(found, widest[i * width + x])
            distance[y * width + x] = found
        }
    }
}

/**
 * A mask that follows the photo's own edges: the fast guided filter with a colour guide.
 *
 * `alpha = r · red + g · green + b · blue + rest`, colours in [0, 1], four numbers a pixel of a small picture which is
 * stretched to the photo. A shader can do that last step (matte.agsl, matte.frag), or [alpha] does. The numbers are those
 * of the manifest's `refine`.
 */
class EdgeRefiner(
    val side: Int,
    val radius: Int,
    val epsilon: Float,
    val low: Float,
    val high: Float,
    val specks: Float,
    val holes: Float,
) {
    init {
        require(side >= 1 && radius >= 1 && epsilon > 0) { "side $side, radius $radius, epsilon $epsilon" }
        require(low >= 0 && low < 0.5f && abs(low + high - 1) < 1e-6f) { "low $low, high $high" }
        require(specks in 0f..1f && holes in 0f..1f) { "specks $specks, holes $holes: shares of the picture" }
    }

    private var work: Work? = null

    /** Coefficients of one mask: [width] · [height] pixels of four numbers (red, green, blue, rest). */
    class Coefficients(val width: Int, val height: Int) {
        val values = FloatArray(4 * width * height)
    }

    /**
     * What makes the refined matte of the photo's pixels.
     *
     * @param pixels the network's input, rows of [width].
     * @param probability what it said, of the same size.
     * @return the same object each time while the size stays: what it held before is gone.
     */
    fun coefficients(pixels: IntArray, probability: FloatArray, width: Int, height: Int): Coefficients {
        val ready = work?.takeIf { it.width == width && it.height == height } ?: Work(width, height, side)
        work = ready
        return ready.make(pixels, probability, radius, epsilon, specks)
    }

    /** Calls [sink] with the place and the shaped alpha of each upright pixel of a photo that lies as [turn] says. */
    inline fun alpha(found: Coefficients, photo: PixelSource, turn: Turn, sink: (Int, Float) -> Unit) {
        val plan = plan(found, turn)
        val row = IntArray(photo.width)
        for (v in 0 until photo.height) {
            photo.readRow(v, row)
            for (u in 0 until photo.width) sink(plan.place(u, v), MaskMath.shape(plan.at(u, v, row[u]), low, high))
        }
    }

    @PublishedApi
    internal fun plan(found: Coefficients, turn: Turn): Plan = Plan(found, turn)

    /** Evaluates coefficients anywhere in a photo. */
    @PublishedApi
    internal class Plan(found: Coefficients, private val turn: Turn) {
        private val values = found.values
        private val width = found.width
        private val across = Stretch(found.width, turn.uprightWidth)
        private val down = Stretch(found.height, turn.uprightHeight)

        fun place(u: Int, v: Int): Int = turn.y(u, v) * turn.uprightWidth + turn.x(u, v)

        fun at(u: Int, v: Int, pixel: Int): Float {
            val x = turn.x(u, v)
            val y = turn.y(u, v)
            val top = down.first[y] * width
            val bottom = down.second[y] * width
            val left = across.first[x]
            val right = across.second[x]
            val colour = RECIPROCAL
            val sum = mix(top + left, top + right, bottom + left, bottom + right, across.fraction[x], down.fraction[y], 3) +
                mix(top + left, top + right, bottom + left, bottom + right, across.fraction[x], down.fraction[y], 0) *
                ((pixel shr 16 and 255) * colour) +
                mix(top + left, top + right, bottom + left, bottom + right, across.fraction[x], down.fraction[y], 1) *
                ((pixel shr 8 and 255) * colour) +
                mix(top + left, top + right, bottom + left, bottom + right, across.fraction[x], down.fraction[y], 2) *
                ((pixel and 255) * colour)
            return sum.coerceIn(0f, 1f)
        }

        private fun mix(a: Int, b: Int, c: Int, d: Int, fx: Float, fy: Float, channel: Int): Float {
            val upper = values[4 * a + channel] * (1f - fx) + values[4 * b + channel] * fx
            val lower = values[4 * c + channel] * (1f - fx) + values[4 * d + channel] * fx
            return upper * (1f - fy) + lower * fy
        }
    }

    internal companion object {
        const val RECIPROCAL = 1f / 255f

        /** Size of the coefficients: the longer side shrunk to [side], never stretched; halves to even, as Python. */
        fun guideSize(length: Int, longer: Int, side: Int): Int {
            val exact = length * min(1.0, side.toDouble() / longer)
            return max(1, kotlin.math.round(exact).roundToInt())
        }
    }
}
