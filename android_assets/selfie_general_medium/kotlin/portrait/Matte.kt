package portrait

import android.graphics.Bitmap

/**
 * What was found of one photo or frame, upright and mirrored as asked.
 *
 * One object, overwritten by the next call of the segmenter that made it. Like it, for one thread.
 *
 * @property probability of person at the network's size, rows of [width].
 * @property coefficients for a shader, in red, green, blue and rest, at the size that they say.
 */
class Matte internal constructor(val width: Int, val height: Int, private val refiner: EdgeRefiner) {
    val probability = FloatArray(width * height)
    lateinit var coefficients: EdgeRefiner.Coefficients
        internal set
    internal lateinit var turn: Turn
    internal var isPhoto = true
    private var bytes = ByteArray(0)

    /** Of the upright photo, in pixels. */
    val photoWidth get() = turn.uprightWidth
    val photoHeight get() = turn.uprightHeight

    /** The bounds between which a shader clears haze, by a smooth step. */
    val low get() = refiner.low
    val high get() = refiner.high

    /**
     * Alpha at the photo's size, refined, on the CPU: a byte a pixel, 255 is person, rows of [photoWidth].
     *
     * Stray pieces are removed from photos; for frames the shader's picture and this one are the same.
     *
     * @param bitmap the one that was segmented.
     * @return overwritten by the next call.
     */
    fun alpha(bitmap: Bitmap): ByteArray {
        val photo = BitmapSource.of(bitmap)
        require(photo.width == turn.width && photo.height == turn.height) {
            "a bitmap of ${photo.width}x${photo.height}, the mask is of one of ${turn.width}x${turn.height}"
        }
        if (bytes.size != photo.width * photo.height) bytes = ByteArray(photo.width * photo.height)
        refiner.alpha(coefficients, photo, turn) { place, alpha -> bytes[place] = MaskMath.toByte(alpha).toByte() }
        if (isPhoto) Pieces.clean(bytes, turn.uprightWidth, refiner.specks, refiner.holes)
        return bytes
    }

    /** The person alone, upright: a new bitmap whose background is transparent. */
    fun cutout(bitmap: Bitmap): Bitmap {
        val alpha = alpha(bitmap)
        return turned(bitmap) { alpha[it].toInt() and 255 }
    }

    /** The whole photo, upright and opaque, to lie under a cut-out (whose transparent pixels have lost their colours). */
    fun upright(bitmap: Bitmap): Bitmap = turned(bitmap) { 255 }

    private inline fun turned(bitmap: Bitmap, alphaAt: (Int) -> Int): Bitmap {
        val photo = BitmapSource.of(bitmap)
        val pixels = IntArray(photo.width * photo.height)
        val row = IntArray(photo.width)
        for (v in 0 until photo.height) {
            photo.readRow(v, row)
            for (u in 0 until photo.width) {
                val place = turn.y(u, v) * turn.uprightWidth + turn.x(u, v)
                pixels[place] = (row[u] and 0xFFFFFF) or (alphaAt(place) shl 24)
            }
        }
        return Bitmap.createBitmap(pixels, turn.uprightWidth, turn.uprightHeight, Bitmap.Config.ARGB_8888)
    }
}

/** Rows of a bitmap; what cannot be read, or held, is refused. */
internal class BitmapSource private constructor(private val bitmap: Bitmap) : PixelSource {
    override val width = bitmap.width
    override val height = bitmap.height

    override fun readRow(y: Int, into: IntArray) = bitmap.getPixels(into, 0, width, 0, y, width, 1)

    companion object {
        /** A photo of more pixels has no room beside its matte in an app's memory. */
        const val MOST_PIXELS = 100_000_000L

        fun of(bitmap: Bitmap): BitmapSource {
            require(!bitmap.isRecycled) { "the bitmap is recycled: segment it before recycle()" }
            require(bitmap.width.toLong() * bitmap.height <= MOST_PIXELS) {
                "a bitmap of ${bitmap.width}x${bitmap.height} pixels, at most $MOST_PIXELS: decode it smaller (inSampleSize)"
            }
            // its pixels lie in the GPU's memory, where getPixels does not reach
            if (bitmap.config != Bitmap.Config.HARDWARE) return BitmapSource(bitmap)
            return BitmapSource(requireNotNull(bitmap.copy(Bitmap.Config.ARGB_8888, false)) { "the bitmap cannot be copied" })
        }
    }
}
