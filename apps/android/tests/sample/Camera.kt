// What of CameraX the sample calls, by androidx/androidx camera/camera-core/api/1.4.0-beta02.txt at 6ff110c.

package androidx.camera.core

import android.graphics.Bitmap
import java.util.concurrent.Executor

abstract class UseCase

interface Camera

class CameraSelector private constructor() {
    companion object {
        @JvmField
        val DEFAULT_FRONT_CAMERA = CameraSelector()
    }
}

interface ImageInfo {
    val rotationDegrees: Int
    val timestamp: Long
}

interface ImageProxy : AutoCloseable {
    val imageInfo: ImageInfo

    fun toBitmap(): Bitmap

    // AndroidX declares it again, without an exception
    override fun close()
}

class ImageAnalysis private constructor() : UseCase() {
    fun interface Analyzer {
        fun analyze(image: ImageProxy)
    }

    class Builder {
        fun setOutputImageFormat(outputImageFormat: Int): Builder = TODO("$outputImageFormat")

        fun setBackpressureStrategy(strategy: Int): Builder = TODO("$strategy")

        fun build(): ImageAnalysis = TODO()
    }

    fun setAnalyzer(executor: Executor, analyzer: Analyzer): Unit = TODO("$executor $analyzer")

    companion object {
        const val OUTPUT_IMAGE_FORMAT_RGBA_8888 = 2
        const val STRATEGY_KEEP_ONLY_LATEST = 0
    }
}
