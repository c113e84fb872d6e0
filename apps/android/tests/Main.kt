package portrait.tests

import android.content.Context
import android.content.res.AssetManager
import android.graphics.Bitmap
import java.io.File
import java.nio.ByteBuffer
import java.nio.ByteOrder
import kotlin.system.exitProcess
import portrait.MaskMath
import portrait.PortraitSegmenter
import portrait.Prefer

/**
 * `vectors.json assets scratch only python child.py` runs the tests whose names hold `only`;
 * `photos assets folder GPU|CPU python child.py` segments every `.rgb` of a folder (width and height, 4 bytes each, then RGB).
 */
fun main(arguments: Array<String>) {
    Child.command = arguments.takeLast(2)
    if (arguments[0] == "photos") return segment(File(arguments[1]), File(arguments[2]), Prefer.valueOf(arguments[3]))
    val suite = Suite(only = arguments[3])
    VectorsTest(File(arguments[0])).run(suite)
    SegmenterTest(File(arguments[1]), File(arguments[2])).run(suite)
    exitProcess(suite.finish())
}

/** Beside each photo its `.probability` (floats, little-endian) and its `.alpha` (bytes). */
private fun segment(assets: File, folder: File, prefer: Prefer) {
    val context = object : Context() {
        override val assets = AssetManager.hookOf(assets)
    }
    PortraitSegmenter.create(context, prefer).use { segmenter ->
        for (file in folder.listFiles()!!.filter { it.extension == "rgb" }.sorted()) {
            val content = ByteBuffer.wrap(file.readBytes()).order(ByteOrder.LITTLE_ENDIAN)
            val (width, height) = content.getInt() to content.getInt()
            val pixels = IntArray(width * height) {
                (255 shl 24) or (content.get().toInt() and 255 shl 16) or (content.get().toInt() and 255 shl 8) or
                    (content.get().toInt() and 255)
            }
            val bitmap = Bitmap.createBitmap(pixels, width, height, Bitmap.Config.ARGB_8888)
            val matte = segmenter.segment(bitmap)
            val floats = ByteBuffer.allocate(4 * matte.probability.size).order(ByteOrder.LITTLE_ENDIAN)
            floats.asFloatBuffer().put(matte.probability)
            File(folder, "${file.nameWithoutExtension}.probability").writeBytes(floats.array())
            File(folder, "${file.nameWithoutExtension}.alpha").writeBytes(matte.alpha(bitmap))
        }
    }
}
