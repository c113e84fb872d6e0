package portrait

import kotlin.math.ceil
import kotlin.math.floor
import kotlin.math.min
import kotlin.math.round

/** Rows of pixels, 0xAARRGGBB each, as `Bitmap.getPixels` gives them. */
interface PixelSource {
    val width: Int
    val height: Int

    /** Writes row [y] into the first [width] places of [into]. */
    fun readRow(y: Int, into: IntArray)
}

/**
 * Stretches a photo to the network's size as training did: by area where both sides shrink, else bilinearly.
 *
 * Byte for byte what OpenCV's INTER_AREA gives; INTER_LINEAR in its 11-bit fixed point. A platform's own scaler differs,
 * and skips pixels beyond a factor of two. Tables and rows are kept between photos of one size.
 */
class Shrinker(val width: Int, val height: Int) {
    private var sourceWidth = 0
    private var sourceHeight = 0
    private var row = IntArray(0)
    private var below = IntArray(0)
    private val sums = FloatArray(3 * width)
    private val line = FloatArray(3 * width)
    private val integerSums = IntArray(3 * width)
    private var columns = Cells(0)
    private var rows = Cells(0)
    private var across = Taps(0)
    private var down = Taps(0)

    /** Writes the stretched photo, row by row, opaque, into the first width · height places of [into]. */
    fun shrink(source: PixelSource, into: IntArray) {
        require(source.width > 0 && source.height > 0) { "a photo of ${source.width}x${source.height} pixels" }
        val byArea = source.width > width && source.height > height
        if (source.width != sourceWidth || source.height != sourceHeight) prepare(source, byArea)
        when {
            source.width == width && source.height == height -> copy(source, into)
            !byArea -> linear(source, into)
            source.width % width == 0 && source.height % height == 0 -> whole(source, into)
            else -> area(source, into)
        }
    }

    private fun prepare(source: PixelSource, byArea: Boolean) {
        sourceWidth = source.width
        sourceHeight = source.height
        row = IntArray(sourceWidth)
        if (byArea) {
            columns = cells(sourceWidth, width)
            rows = cells(sourceHeight, height)
        } else {
            below = IntArray(sourceWidth)
            across = fixedTaps(sourceWidth, width, clampsFraction = true)
            down = fixedTaps(sourceHeight, height, clampsFraction = false)
        }
    }

    private fun copy(source: PixelSource, into: IntArray) {
        for (y in 0 until height) {
            source.readRow(y, row)
            for (x in 0 until width) into[y * width + x] = row[x] or OPAQUE
        }
    }

    /** Whole factors: integer sums. A factor of two rounds halves up, all others to the nearest even, as OpenCV does. */
    private fun whole(source: PixelSource, into: IntArray) {
        val factorX = source.width / width
        val factorY = source.height / height
        val scale = 1f / (factorX * factorY)
        val isTwo = factorX == 2 && factorY == 2
        for (y in 0 until height) {
            integerSums.fill(0)
            for (part in 0 until factorY) {
                source.readRow(y * factorY + part, row)
                var at = 0
                for (x in 0 until width) for (i in 0 until factorX) {
                    val pixel = row[at++]
                    integerSums[3 * x] += pixel shr 16 and 255
                    integerSums[3 * x + 1] += pixel shr 8 and 255
                    integerSums[3 * x + 2] += pixel and 255
                }
            }
            for (i in sums.indices) {
                sums[i] = if (isTwo) (integerSums[i] + 2 shr 2).toFloat() else integerSums[i] * scale
            }
            write(y, into)
        }
    }

    private fun area(source: PixelSource, into: IntArray) {
        var target = 0
        sums.fill(0f)
        for (part in 0 until rows.count) {
            if (rows.target[part] != target) {
                write(target, into)
                sums.fill(0f)
                target = rows.target[part]
            }
            source.readRow(rows.source[part], row)
            line.fill(0f)
            for (i in 0 until columns.count) {
                val pixel = row[columns.source[i]]
                val weight = columns.weight[i]
                val at = 3 * columns.target[i]
                line[at] += (pixel shr 16 and 255) * weight
                line[at + 1] += (pixel shr 8 and 255) * weight
                line[at + 2] += (pixel and 255) * weight
            }
            val weight = rows.weight[part]
            for (i in sums.indices) sums[i] += line[i] * weight
        }
        write(target, into)
    }

    private fun write(y: Int, into: IntArray) {
        for (x in 0 until width) {
            into[y * width + x] = OPAQUE or (toByte(sums[3 * x]) shl 16) or (toByte(sums[3 * x + 1]) shl 8) or
                toByte(sums[3 * x + 2])
        }
    }

    private fun linear(source: PixelSource, into: IntArray) {
        for (y in 0 until height) {
            source.readRow(down.first[y], row)
            source.readRow(down.second[y], below)
            for (x in 0 until width) {
                var pixel = OPAQUE
                for (shift in SHIFTS) {
                    val upper = mix(row, x, shift)
                    val lower = mix(below, x, shift)
                    val value = ((down.weight[y] * (upper shr 4)) shr 16) +
                        ((down.otherWeight[y] * (lower shr 4)) shr 16)
                    pixel = pixel or ((value + 2 shr 2).coerceIn(0, 255) shl shift)
                }
                into[y * width + x] = pixel
            }
        }
    }

    private fun mix(pixels: IntArray, x: Int, shift: Int): Int =
        (pixels[across.first[x]] shr shift and 255) * across.weight[x] +
            (pixels[across.second[x]] shr shift and 255) * across.otherWeight[x]

    private fun toByte(value: Float): Int = round(value.toDouble()).toInt().coerceIn(0, 255)

    private companion object {
        const val OPAQUE = 255 shl 24
        val SHIFTS = intArrayOf(16, 8, 0)
    }
}

/** Which source pixels make which target pixel, and with what share of it. */
internal class Cells(capacity: Int) {
    val target = IntArray(capacity)
    val source = IntArray(capacity)
    val weight = FloatArray(capacity)
    var count = 0

    fun add(target: Int, source: Int, weight: Double) {
        this.target[count] = target
        this.source[count] = source
        this.weight[count++] = weight.toFloat()
    }
}

/** Shares of area of [from] pixels in [to] fewer ones; what covers less than a thousandth of a pixel is left out. */
internal fun cells(from: Int, to: Int): Cells {
    val scale = from.toDouble() / to
    val found = Cells(from + 2 * to)
    for (i in 0 until to) {
        val begin = i * scale
        val end = begin + scale
        val width = min(scale, from - begin)
        val last = min(floor(end).toInt(), from - 1)
        val first = min(ceil(begin).toInt(), last)
        if (first - begin > 1e-3) found.add(i, first - 1, (first - begin) / width)
        for (j in first until last) found.add(i, j, 1 / width)
        if (end - last > 1e-3) found.add(i, last, min(min(end - last, 1.0), width) / width)
    }
    return found
}

/** Two neighbours and their weights, of 2048. */
internal class Taps(size: Int) {
    val first = IntArray(size)
    val second = IntArray(size)
    val weight = IntArray(size)
    val otherWeight = IntArray(size)
}

internal fun fixedTaps(from: Int, to: Int, clampsFraction: Boolean): Taps {
    val scale = from.toDouble() / to
    val found = Taps(to)
    for (i in 0 until to) {
        val at = ((i + 0.5) * scale - 0.5).toFloat()
        var left = floor(at).toInt()
        var fraction = at - left
        if (clampsFraction && (left < 0 || left >= from - 1)) {
            left = left.coerceIn(0, from - 1)
            fraction = 0f
        }
        found.first[i] = left.coerceIn(0, from - 1)
        found.second[i] = (left + 1).coerceIn(0, from - 1)
        found.weight[i] = round((1f - fraction) * 2048.0).toInt()
        found.otherWeight[i] = round(fraction * 2048.0).toInt()
    }
    return found
}

/**
 * A turn clockwise by [degrees], then, where [mirrored], left and right exchanged: from how the pixels lie to upright.
 *
 * Upright pixel (x, y) is pixel number `base + x · stepX + y · stepY` of the [width] · [height] that are turned.
 */
class Turn(val degrees: Int, val mirrored: Boolean, val width: Int, val height: Int) {
    init {
        require(degrees in setOf(0, 90, 180, 270)) { "rotationDegrees $degrees: 0, 90, 180 or 270" }
    }

    val isSideways get() = degrees == 90 || degrees == 270
    val uprightWidth = if (isSideways) height else width
    val uprightHeight = if (isSideways) width else height
    val stepX: Int
    val stepY: Int
    val base: Int

    init {
        val (right, downwards, start) = when (degrees) {
            90 -> Triple(-width, 1, (height - 1) * width)
            180 -> Triple(-1, -width, width * height - 1)
            270 -> Triple(width, -1, width - 1)
            else -> Triple(1, width, 0)
        }
        stepX = if (mirrored) -right else right
        stepY = downwards
        base = if (mirrored) start + (uprightWidth - 1) * right else start
    }

    /** Turns [pixels]. */
    fun apply(pixels: IntArray, into: IntArray) {
        for (y in 0 until uprightHeight) for (x in 0 until uprightWidth) {
            into[y * uprightWidth + x] = pixels[base + x * stepX + y * stepY]
        }
    }

    /** Upright column of pixel ([u], [v]) of the source. */
    internal fun x(u: Int, v: Int): Int {
        val x = when (degrees) {
            90 -> height - 1 - v
            180 -> width - 1 - u
            270 -> v
            else -> u
        }
        return if (mirrored) uprightWidth - 1 - x else x
    }

    /** Upright row of pixel ([u], [v]) of the source. */
    internal fun y(u: Int, v: Int): Int = when (degrees) {
        90 -> u
        180 -> height - 1 - v
        270 -> width - 1 - u
        else -> v
    }
}
