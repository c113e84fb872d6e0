package portrait

import android.content.Context
import android.content.res.AssetManager
import android.graphics.Bitmap
import android.graphics.BitmapFactory
import android.util.Log
import java.io.IOException

/** Where a network runs. [AUTO]: the GPU, and where that refuses or is wrong, the CPU. */
enum class Prefer { AUTO, GPU, CPU }

/**
 * Masks of persons, of photos and of a camera's frames.
 *
 * **One thread owns it**: the one that called [create] makes every call, [close] too (a GPU's state belongs to its thread).
 * Another gets an `IllegalStateException`. Give it a single-thread executor.
 *
 * Before it is handed out it has computed its golden portrait and compared the mask, so what a GPU gets wrong is never shown.
 */
class PortraitSegmenter private constructor(
    private val assets: AssetManager,
    private val spec: ModelSpec,
    private val prefer: Prefer,
    private val threads: Int,
) : AutoCloseable {
    private val owner = Thread.currentThread()
    private val refiner = spec.makeRefiner()
    private val smoother = spec.makeSmoother()
    private val matte = Matte(spec.width, spec.height, refiner)
    private val lying = IntArray(spec.width * spec.height)
    private val upright = IntArray(spec.width * spec.height)
    private val shrinker = Shrinker(spec.width, spec.height)
    private val sideways by lazy { Shrinker(spec.height, spec.width) }
    private var frameTurn: Turn? = null
    private var engine: Engine? = null

    /** GPU or CPU, whichever runs now; AUTO never. */
    var runsOn = if (prefer == Prefer.CPU) Prefer.CPU else Prefer.GPU
        private set

    /**
     * The mask of a photo.
     *
     * @param bitmap any config; a hardware bitmap is copied first.
     * @param rotationDegrees clockwise, what turns it upright: 0, 90, 180 or 270.
     * @param mirrored left and right are exchanged after the turn, as front cameras are shown.
     */
    fun segment(bitmap: Bitmap, rotationDegrees: Int = 0, mirrored: Boolean = false): Matte {
        checkOwner()
        val photo = BitmapSource.of(bitmap)
        compute(photo, Turn(rotationDegrees, mirrored, photo.width, photo.height))
        return finish(isPhoto = true)
    }

    /**
     * The mask of a camera's next frame, smoothed over time.
     *
     * @param timestampNs of the frame, as `ImageInfo.timestamp`; after a gap, another size or turn smoothing begins anew.
     */
    fun segmentFrame(bitmap: Bitmap, rotationDegrees: Int, mirrored: Boolean, timestampNs: Long): Matte {
        checkOwner()
        val photo = BitmapSource.of(bitmap)
        val turn = Turn(rotationDegrees, mirrored, photo.width, photo.height)
        val before = frameTurn
        if (before == null || !before.isLike(turn)) smoother.reset()
        frameTurn = turn
        compute(photo, turn)
        smoother.smooth(matte.probability, spec.width, timestampNs / 1e9)
        return finish(isPhoto = false)
    }

    /** Forgets the frames so far: another camera, another video. */
    fun reset() {
        checkOwner()
        smoother.reset()
    }

    /** Frees the runtime; a second time does nothing. */
    override fun close() {
        if (engine == null) return
        checkOwner()
        engine?.close()
        engine = null
    }

    private fun checkOwner() {
        check(Thread.currentThread() === owner) {
            "called on thread ${Thread.currentThread().name}, but ${owner.name} made this PortraitSegmenter and owns it"
        }
        checkNotNull(engine) { "this PortraitSegmenter is closed" }
    }

    private fun compute(photo: PixelSource, turn: Turn) {
        // the small picture is turned, not the large one
        (if (turn.isSideways) sideways else shrinker).shrink(photo, lying)
        val width = if (turn.isSideways) spec.height else spec.width
        Turn(turn.degrees, turn.mirrored, width, lying.size / width).apply(lying, upright)
        matte.turn = turn
        try {
            engine!!.run(upright, matte.probability)
        } catch (refused: PortraitException) {
            // a GPU may be lost while an app is in the background
            if (prefer != Prefer.AUTO || runsOn == Prefer.CPU) throw refused
            fallBack(refused)
            engine!!.run(upright, matte.probability)
        }
    }

    private fun finish(isPhoto: Boolean): Matte {
        matte.isPhoto = isPhoto
        matte.coefficients = refiner.coefficients(upright, matte.probability, spec.width, spec.height)
        return matte
    }

    private fun open() {
        if (runsOn == Prefer.CPU) return openCpu()
        try {
            engine = proven(GpuEngine(assets, spec), spec.gpuFile, spec.goldenGpu)
        } catch (refused: PortraitException) {
            if (prefer == Prefer.GPU) throw refused
            fallBack(refused)
        }
    }

    private fun fallBack(reason: PortraitException) {
        Log.w(TAG, "on the CPU, not on the GPU: ${reason.message}")
        engine?.close()
        engine = null
        openCpu()
    }

    private fun openCpu() {
        runsOn = Prefer.CPU
        engine = proven(CpuEngine(assets, spec, threads), spec.cpuFile, spec.goldenCpu)
    }

    /** The engine, if its mask of the golden portrait is right; else it is closed. */
    private fun proven(opened: Engine, file: String, goldenMask: String): Engine {
        var isRight = false
        try {
            opened.run(golden(spec.goldenPortrait), matte.probability)
            val found = ByteArray(matte.probability.size) { MaskMath.toByte(matte.probability[it]).toByte() }
            val expected = golden(goldenMask).let { mask -> ByteArray(mask.size) { mask[it].toByte() } }
            val (mean, flipped) = MaskMath.difference(expected, found)
            isRight = mean <= spec.meanSteps && flipped <= spec.flippedShare
            if (!isRight) {
                throw PortraitException(
                    "$file: its golden mask is wrong, %.1f of 255 on average, %.1f %% of the pixels flipped"
                        .format(java.util.Locale.ROOT, mean, 100 * flipped),
                )
            }
            return opened
        } finally {
            if (!isRight) opened.close()
        }
    }

    private fun golden(name: String): IntArray {
        val bitmap = try {
            assets.open(name).use { BitmapFactory.decodeStream(it) }
        } catch (missing: IOException) {
            throw PortraitException("$name: not among the app's assets: copy the folder golden/ too", missing)
        } ?: throw PortraitException("$name: no picture")
        if (bitmap.width != spec.width || bitmap.height != spec.height) {
            throw PortraitException("$name: ${bitmap.width}x${bitmap.height}, not ${spec.width}x${spec.height}")
        }
        val pixels = IntArray(spec.width * spec.height)
        bitmap.getPixels(pixels, 0, spec.width, 0, 0, spec.width, spec.height)
        bitmap.recycle()
        return pixels
    }

    companion object {
        private const val TAG = "Portrait"

        /**
         * Opens the network and proves it by its golden portrait; takes tens of milliseconds or, on a GPU, up to seconds.
         *
         * @param threads of the CPU.
         * @throws PortraitException a file is missing, damaged or not its manifest's; with [Prefer.GPU], there is none.
         */
        @Throws(PortraitException::class)
        @JvmStatic
        @JvmOverloads
        fun create(
            context: Context,
            prefer: Prefer = Prefer.AUTO,
            threads: Int = 2,
            spec: ModelSpec = PortraitModel.SPEC,
        ): PortraitSegmenter = PortraitSegmenter(context.assets, spec, prefer, threads).apply { open() }
    }
}

private fun Turn.isLike(other: Turn) =
    degrees == other.degrees && mirrored == other.mirrored && width == other.width && height == other.height
