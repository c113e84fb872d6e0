package portrait

/** The planes and buffers in which coefficients are made, kept from frame to frame; for a network of one size. */
internal class Work(val width: Int, val height: Int, side: Int) {
    private val longer = maxOf(width, height)
    private val smallWidth = EdgeRefiner.guideSize(width, longer, side)
    private val smallHeight = EdgeRefiner.guideSize(height, longer, side)
    private val size = smallWidth * smallHeight
    private val found = EdgeRefiner.Coefficients(smallWidth, smallHeight)
    private val shrinker = Shrinker(smallWidth, smallHeight)
    private val source = ArraySource(width, height)
    private val guide = IntArray(size)

    /** Red, green, blue, target; their products with the target; six products of colours. */
    private val planes = Array(PLANES) { FloatArray(size) }
    private val sums = DoubleArray(smallWidth)
    private val blurred = FloatArray(size)
    private val colours = Array(3) { FloatArray(size) }
    private val pieces = Pieces(smallWidth, smallHeight)
    private val target = Shrink(width, height, smallWidth, smallHeight)

    fun make(
        pixels: IntArray,
        probability: FloatArray,
        radius: Int,
        epsilon: Float,
        specks: Float,
    ): EdgeRefiner.Coefficients {
        source.pixels = pixels
        shrinker.shrink(source, guide)
        target.apply(probability, planes[TARGET])
        fillProducts()
        for (plane in planes) box(plane, radius)
        for (i in 0 until size) solve(i, epsilon)
        for (plane in 0..3) {
            box(planes[plane], radius)
            for (i in 0 until size) found.values[4 * i + plane] = planes[plane][i]
        }
        if (specks > 0) dropSpecks(specks, radius)
        return found
    }

    private fun fillProducts() {
        for (i in 0 until size) {
            val pixel = guide[i]
            val p = planes[TARGET][i]
            for (channel in 0..2) {
                val value = (pixel shr (16 - 8 * channel) and 255) / 255f
                colours[channel][i] = value
                planes[channel][i] = value
                planes[COVARIANCE + channel][i] = value * p
            }
            for (pair in PAIRS.indices) {
                planes[VARIANCE + pair][i] = colours[PAIRS[pair][0]][i] * colours[PAIRS[pair][1]][i]
            }
        }
    }

    /** (variance + epsilon · 1)⁻¹ · covariance by the adjugate of the symmetric 3×3; then a and b lie in planes 0 to 3. */
    private fun solve(i: Int, epsilon: Float) {
        val r = planes[0][i]
        val g = planes[1][i]
        val b = planes[2][i]
        val mean = planes[TARGET][i]
        val x = planes[COVARIANCE][i] - r * mean
        val y = planes[COVARIANCE + 1][i] - g * mean
        val z = planes[COVARIANCE + 2][i] - b * mean
        val rr = planes[VARIANCE][i] - r * r + epsilon
        val rg = planes[VARIANCE + 1][i] - r * g
        val rb = planes[VARIANCE + 2][i] - r * b
        val gg = planes[VARIANCE + 3][i] - g * g + epsilon
        val gb = planes[VARIANCE + 4][i] - g * b
        val bb = planes[VARIANCE + 5][i] - b * b + epsilon
        val c00 = gg * bb - gb * gb
        val c01 = rb * gb - rg * bb
        val c02 = rg * gb - rb * gg
        val determinant = rr * c00 + rg * c01 + rb * c02
        val red = (c00 * x + c01 * y + c02 * z) / determinant
        val green = (c01 * x + (rr * bb - rb * rb) * y + (rg * rb - rr * gb) * z) / determinant
        val blue = (c02 * x + (rg * rb - rr * gb) * y + (rr * gg - rg * rg) * z) / determinant
        planes[0][i] = red
        planes[1][i] = green
        planes[2][i] = blue
        planes[TARGET][i] = mean - (red * r + green * g + blue * b)
    }

    /** Mean over windows of (2 radius + 1)², in place; beyond the edge its pixels are repeated. */
    private fun box(plane: FloatArray, radius: Int) {
        val area = (2 * radius + 1) * (2 * radius + 1)
        for (y in 0 until smallHeight) {
            val row = y * smallWidth
            var sum = 0.0
            for (i in -radius..radius) sum += plane[row + i.coerceIn(0, smallWidth - 1)]
            for (x in 0 until smallWidth) {
                blurred[row + x] = sum.toFloat()
                sum += plane[row + minOf(x + radius + 1, smallWidth - 1)]
                sum -= plane[row + maxOf(x - radius, 0)]
            }
        }
        sums.fill(0.0)
        for (i in -radius..radius) {
            val row = i.coerceIn(0, smallHeight - 1) * smallWidth
            for (x in 0 until smallWidth) sums[x] += blurred[row + x]
        }
        for (y in 0 until smallHeight) {
            val entering = minOf(y + radius + 1, smallHeight - 1) * smallWidth
            val leaving = maxOf(y - radius, 0) * smallWidth
            for (x in 0 until smallWidth) {
                plane[y * smallWidth + x] = (sums[x] / area).toFloat()
                sums[x] += blurred[entering + x]
                sums[x] -= blurred[leaving + x]
            }
        }
    }

    private fun dropSpecks(share: Float, radius: Int) {
        val values = found.values
        pieces.fill { i ->
            val alpha = values[4 * i] * colours[0][i] + values[4 * i + 1] * colours[1][i] +
                values[4 * i + 2] * colours[2][i] + values[4 * i + 3]
            MaskMath.isPerson(alpha)
        }
        if (!pieces.markSmall(isPerson = true, share = share)) return
        pieces.grow(Pieces.SPECK, Pieces.NEAR_SPECK, radius)
        for (i in 0 until size) {
            // what is kept keeps its own seam
            if (pieces.has(i, Pieces.NEAR_SPECK) && !pieces.touchesKept(i)) values.fill(0f, 4 * i, 4 * i + 4)
        }
    }

    private companion object {
        const val TARGET = 3
        const val COVARIANCE = 4
        const val VARIANCE = 7
        const val PLANES = 13
        val PAIRS = arrayOf(
            intArrayOf(0, 0), intArrayOf(0, 1), intArrayOf(0, 2), intArrayOf(1, 1), intArrayOf(1, 2), intArrayOf(2, 2),
        )
    }
}

/** Pixels in memory as a source. */
internal class ArraySource(override val width: Int, override val height: Int) : PixelSource {
    var pixels = IntArray(0)

    override fun readRow(y: Int, into: IntArray) {
        pixels.copyInto(into, 0, y * width, (y + 1) * width)
    }
}

/** Shrinks a plane of probabilities: by area where both sides shrink, else bilinearly. */
internal class Shrink(private val width: Int, private val height: Int, private val toWidth: Int, private val toHeight: Int) {
    private val byArea = toWidth < width && toHeight < height
    private val columns = cells(width, toWidth)
    private val rows = cells(height, toHeight)
    private val across = Stretch(width, toWidth)
    private val down = Stretch(height, toHeight)

    fun apply(plane: FloatArray, into: FloatArray) {
        if (width == toWidth && height == toHeight) plane.copyInto(into) else if (byArea) area(plane, into) else linear(plane, into)
    }

    private fun area(plane: FloatArray, into: FloatArray) {
        into.fill(0f)
        for (part in 0 until rows.count) for (i in 0 until columns.count) {
            into[rows.target[part] * toWidth + columns.target[i]] +=
                plane[rows.source[part] * width + columns.source[i]] * columns.weight[i] * rows.weight[part]
        }
    }

    private fun linear(plane: FloatArray, into: FloatArray) {
        for (y in 0 until toHeight) for (x in 0 until toWidth) {
            into[y * toWidth + x] = bilinear(plane, width, across, down, x, y)
        }
    }
}

internal fun bilinear(plane: FloatArray, width: Int, across: Stretch, down: Stretch, x: Int, y: Int): Float {
    val top = down.first[y] * width
    val bottom = down.second[y] * width
    val fx = across.fraction[x]
    val upper = plane[top + across.first[x]] * (1f - fx) + plane[top + across.second[x]] * fx
    val lower = plane[bottom + across.first[x]] * (1f - fx) + plane[bottom + across.second[x]] * fx
    return upper * (1f - down.fraction[y]) + lower * down.fraction[y]
}

/** Connected pieces of a mask, a byte of marks a pixel; memory beyond that grows with a piece's outline alone. */
internal class Pieces(val width: Int, val height: Int) {
    val marks = ByteArray(width * height)
    private var queue = IntArray(1024)

    inline fun fill(isPerson: (Int) -> Boolean) {
        for (i in marks.indices) marks[i] = if (isPerson(i)) PERSON.toByte() else 0
    }

    fun has(i: Int, mark: Int): Boolean = marks[i].toInt() and mark != 0

    /** Marks the pieces (person: 8 neighbours, as specks; background: 4, as holes) below a share of the picture. */
    fun markSmall(isPerson: Boolean, share: Float): Boolean {
        if (share <= 0) return false
        val limit = share.toDouble() * marks.size
        // of a piece as large as the limit no more pixels are kept
        val members = IntArray(minOf(marks.size, limit.toInt() + 1))
        var any = false
        for (i in marks.indices) {
            if (has(i, PERSON) != isPerson || has(i, VISITED)) continue
            val count = flood(i, isPerson, members)
            if (count >= limit) continue
            any = true
            for (j in 0 until count) mark(members[j], if (isPerson) SPECK else HOLE)
        }
        return any
    }

    /** Marks all within [radius] of what has a mark, a square window. */
    fun grow(mark: Int, grown: Int, radius: Int) {
        for (y in 0 until height) for (x in 0 until width) {
            if (!has(y * width + x, mark)) continue
            for (v in maxOf(0, y - radius)..minOf(height - 1, y + radius)) {
                for (u in maxOf(0, x - radius)..minOf(width - 1, x + radius)) mark(v * width + u, grown)
            }
        }
    }

    /** Whether the pixel, or one of its eight neighbours, is of a piece of person that is kept. */
    fun touchesKept(i: Int): Boolean {
        val x = i % width
        val y = i / width
        for (v in maxOf(0, y - 1)..minOf(height - 1, y + 1)) for (u in maxOf(0, x - 1)..minOf(width - 1, x + 1)) {
            if (marks[v * width + u].toInt() and (PERSON or SPECK) == PERSON) return true
        }
        return false
    }

    private fun mark(i: Int, mark: Int) {
        marks[i] = (marks[i].toInt() or mark).toByte()
    }

    private fun flood(start: Int, isPerson: Boolean, members: IntArray): Int {
        var head = 0
        var length = 0
        var count = 0
        fun push(i: Int) {
            if (has(i, PERSON) != isPerson || has(i, VISITED)) return
            mark(i, VISITED)
            if (length == queue.size) {
                queue = IntArray(2 * length) { queue[(head + it) % length] }
                head = 0
            }
            queue[(head + length++) % queue.size] = i
            if (count < members.size) members[count] = i
            count++
        }
        push(start)
        while (length > 0) {
            val i = queue[head]
            head = (head + 1) % queue.size
            length--
            val x = i % width
            val y = i / width
            for (v in maxOf(0, y - 1)..minOf(height - 1, y + 1)) for (u in maxOf(0, x - 1)..minOf(width - 1, x + 1)) {
                if (isPerson || u == x || v == y) push(v * width + u)
            }
        }
        return count
    }

    companion object {
        const val PERSON = 1
        const val VISITED = 2
        const val SPECK = 4
        const val HOLE = 8
        const val NEAR_SPECK = 16
        const val NEAR_HOLE = 32

        /** How far the soft seam of a speck or a hole reaches at the photo's size, in pixels. */
        private const val SEAM = 3

        /**
         * Takes away, at the photo's own size, what a colour by chance made person or a hole.
         *
         * @param alpha bytes of the photo's matte, rows of [width]; changed in place.
         */
        fun clean(alpha: ByteArray, width: Int, specks: Float, holes: Float) {
            val pieces = Pieces(width, alpha.size / width)
            pieces.fill { MaskMath.isPerson(alpha[it].toInt() and 255) }
            val anySpeck = pieces.markSmall(isPerson = true, share = specks)
            val anyHole = pieces.markSmall(isPerson = false, share = holes)
            if (!anySpeck && !anyHole) return
            pieces.grow(SPECK, NEAR_SPECK, SEAM)
            pieces.grow(HOLE, NEAR_HOLE, SEAM)
            for (i in alpha.indices) {
                val marks = pieces.marks[i].toInt()
                if (marks and (NEAR_SPECK or NEAR_HOLE) == 0) continue
                val isPerson = marks and PERSON != 0
                val isSpeck = marks and SPECK != 0
                val isHole = marks and HOLE != 0
                // the soft outline of what stays is no seam of a speck
                if (!isPerson && !isHole && pieces.touchesKept(i)) continue
                if (marks and NEAR_SPECK != 0 && (!isPerson || isSpeck)) alpha[i] = 0
                if (marks and NEAR_HOLE != 0 && (isPerson || isHole) && !isSpeck) alpha[i] = -1
            }
        }
    }
}
