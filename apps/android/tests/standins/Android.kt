// Stand-ins for what of Android the sources call, working in memory on a JVM. Names and numbers of arguments are compared
// with Android's own API in tests/apps/test_android.py; what is no part of it is marked as a hook.

package android.graphics

import java.io.InputStream
import java.nio.Buffer
import java.nio.ByteBuffer
import javax.imageio.ImageIO

class Bitmap private constructor(val width: Int, val height: Int, val config: Config, private val pixels: IntArray) {
    enum class Config { ALPHA_8, RGB_565, ARGB_4444, ARGB_8888, RGBA_F16, HARDWARE, RGBA_1010102 }

    var isRecycled = false
        private set

    fun getPixels(pixels: IntArray, offset: Int, stride: Int, x: Int, y: Int, width: Int, height: Int) {
        readable()
        require(x >= 0 && y >= 0 && x + width <= this.width && y + height <= this.height) { "outside of the bitmap" }
        for (row in 0 until height) {
            this.pixels.copyInto(pixels, offset + row * stride, (y + row) * this.width + x, (y + row) * this.width + x + width)
        }
    }

    fun copy(config: Config, isMutable: Boolean): Bitmap? {
        check(!isRecycled) { "Can't copy a recycled bitmap" }
        return if (isMutable && config == Config.HARDWARE) null else Bitmap(width, height, config, pixels.copyOf())
    }

    fun copyPixelsToBuffer(dst: Buffer) {
        readable()
        for (pixel in pixels) {
            (dst as ByteBuffer).put((pixel shr 16).toByte()).put((pixel shr 8).toByte()).put(pixel.toByte())
                .put((pixel ushr 24).toByte())
        }
    }

    fun recycle() {
        isRecycled = true
    }

    private fun readable() {
        check(!isRecycled) { "Can't call getPixels() on a recycled bitmap" }
        check(config != Config.HARDWARE) { "unable to getPixels(), pixel access is not supported on Config#HARDWARE bitmaps" }
    }

    companion object {
        @JvmStatic
        fun createBitmap(colors: IntArray, width: Int, height: Int, config: Config): Bitmap =
            Bitmap(width, height, config, colors.copyOf(width * height))

        @JvmStatic
        fun createBitmap(width: Int, height: Int, config: Config): Bitmap =
            Bitmap(width, height, config, IntArray(width * height))

        /** The sample's, to be compiled against, not run. */
        @JvmStatic
        fun createScaledBitmap(src: Bitmap, dstWidth: Int, dstHeight: Int, filter: Boolean): Bitmap =
            TODO("$src $dstWidth $dstHeight $filter")

        /** Hook: a bitmap that says it is large. */
        fun hookOfSize(width: Int, height: Int) = Bitmap(width, height, Config.ARGB_8888, IntArray(0))
    }
}

object BitmapFactory {
    @JvmStatic
    fun decodeStream(`is`: InputStream): Bitmap? {
        val image = ImageIO.read(`is`) ?: return null
        val pixels = IntArray(image.width * image.height)
        val raster = image.raster
        // the stored samples: ImageIO's getRGB would take gray through a colour space
        val sample = IntArray(raster.numBands)
        for (i in pixels.indices) {
            raster.getPixel(i % image.width, i / image.width, sample)
            val green = sample[if (sample.size < 3) 0 else 1]
            val blue = sample[if (sample.size < 3) 0 else 2]
            pixels[i] = (255 shl 24) or (sample[0] shl 16) or (green shl 8) or blue
        }
        return Bitmap.createBitmap(pixels, image.width, image.height, Bitmap.Config.ARGB_8888)
    }
}
