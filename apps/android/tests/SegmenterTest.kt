package portrait.tests

import android.content.Context
import android.content.res.AssetManager
import android.graphics.Bitmap
import android.graphics.BitmapFactory
import android.util.Log
import java.io.File
import kotlin.math.abs
import portrait.MaskMath
import portrait.ModelSpec
import portrait.PortraitException
import portrait.PortraitModel
import portrait.PortraitSegmenter
import portrait.Prefer

/** The class that an app calls, on an Android that lives in memory and the real LiteRT. */
class SegmenterTest(private val assets: File, private val scratch: File) {
    private val spec = PortraitModel.SPEC
    private val portrait = picture(spec.goldenPortrait)

    private fun context(folder: File = assets) = object : Context() {
        override val assets = AssetManager.hookOf(folder)
    }

    private fun picture(name: String): Bitmap = File(assets, name).inputStream().use { BitmapFactory.decodeStream(it)!! }

    private fun pixels(bitmap: Bitmap) = IntArray(bitmap.width * bitmap.height).also {
        bitmap.getPixels(it, 0, bitmap.width, 0, 0, bitmap.width, bitmap.height)
    }

    private fun bytes(probability: FloatArray) = ByteArray(probability.size) { MaskMath.toByte(probability[it]).toByte() }

    private fun <T> with(prefer: Prefer, body: (PortraitSegmenter) -> T): T =
        PortraitSegmenter.create(context(), prefer).use(body)

    fun run(suite: Suite) {
        suite.test("golden portrait on the GPU") { golden(Prefer.AUTO, Prefer.GPU, spec.goldenGpu) }
        suite.test("golden portrait on the CPU") { golden(Prefer.CPU, Prefer.CPU, spec.goldenCpu) }
        fallback(suite)
        suite.test("every turn gives the mask of the upright portrait, turned") { turns() }
        suite.test("a photo of another size, its alpha and cut-out") { photo() }
        suite.test("frames are smoothed, photos are not") { frames() }
        suite.test("another turn, or a gap, begins anew") { anew() }
        closing(suite)
        misuse(suite)
        damage(suite)
        suite.test("allocations a frame") { allocations() }
    }

    private fun golden(prefer: Prefer, runsOn: Prefer, mask: String) = with(prefer) { segmenter ->
        same(segmenter.runsOn, runsOn, "runs on")
        val expected = pixels(picture(mask)).let { found -> ByteArray(found.size) { found[it].toByte() } }
        val (mean, flipped) = MaskMath.difference(expected, bytes(segmenter.segment(portrait).probability))
        println("# golden portrait on $runsOn: mean $mean of 255, flipped ${100 * flipped} %")
        same(mean < 1 && flipped < 0.001f, true, "mean $mean of 255, flipped $flipped")
        same(Log.hookLines.size, 0, "lines logged")
    }

    private fun fallback(suite: Suite) {
        val faults = mapOf(
            "no GPU" to { Device.hasGpu = false },
            "no litert-gpu in the app" to { Device.hasLibrary = false },
            "a wrong mask" to { Device.isGpuWrong = true },
            "a GPU that dies in its first run" to { Device.gpuRunsLeft = 0 },
        )
        for ((name, fault) in faults) {
            suite.test("$name: the CPU, and one line says so") {
                fault()
                with(Prefer.AUTO) { segmenter ->
                    same(segmenter.runsOn, Prefer.CPU, "runs on")
                    same(Log.hookLines.size, 1, "lines logged: ${Log.hookLines}")
                    same("on the CPU, not on the GPU: " in Log.hookLines[0], true, Log.hookLines[0])
                    segmenter.segment(portrait)
                }
                same(Log.hookLines.size, 1, "lines logged")
            }
            suite.test("$name: with Prefer.GPU an exception") {
                fault()
                refuses<PortraitException>(spec.gpuFile) { PortraitSegmenter.create(context(), Prefer.GPU) }
            }
        }
        suite.test("a GPU that dies later: the CPU goes on in the same call") {
            Device.gpuRunsLeft = 2
            with(Prefer.AUTO) { segmenter ->
                segmenter.segment(portrait)
                same(segmenter.runsOn, Prefer.GPU, "runs on")
                val after = bytes(segmenter.segment(portrait).probability)
                same(segmenter.runsOn, Prefer.CPU, "runs on")
                same(Log.hookLines.size, 1, "lines logged")
                with(Prefer.CPU) { same(after.contentEquals(bytes(it.segment(portrait).probability)), true, "the CPU's mask") }
            }
        }
    }

    /** The portrait as a camera would deliver it, so that [degrees] and [mirrored] bring it back. */
    private fun lying(degrees: Int, mirrored: Boolean): Bitmap {
        val side = portrait.width
        val from = pixels(portrait)
        val into = IntArray(from.size)
        for (y in 0 until side) for (x in 0 until side) {
            val upright = if (mirrored) side - 1 - x else x
            val place = when (degrees) {
                90 -> (side - 1 - upright) * side + y
                180 -> (side - 1 - y) * side + side - 1 - upright
                270 -> upright * side + side - 1 - y
                else -> y * side + upright
            }
            into[place] = from[y * side + x]
        }
        return Bitmap.createBitmap(into, side, side, Bitmap.Config.ARGB_8888)
    }

    private fun turns() = with(Prefer.CPU) { segmenter ->
        val expected = segmenter.segment(portrait).probability.copyOf()
        val alpha = segmenter.segment(portrait).alpha(portrait).copyOf()
        for (degrees in listOf(0, 90, 180, 270)) for (mirrored in listOf(false, true)) {
            val bitmap = lying(degrees, mirrored)
            val matte = segmenter.segment(bitmap, degrees, mirrored)
            same(matte.probability.contentEquals(expected), true, "mask at $degrees, mirrored $mirrored")
            same(matte.alpha(bitmap).contentEquals(alpha), true, "alpha at $degrees, mirrored $mirrored")
            // the cut-out is the upright portrait
            val colours = pixels(matte.cutout(bitmap))
            val upright = pixels(portrait)
            same(colours.indices.all { colours[it] and 0xFFFFFF == upright[it] and 0xFFFFFF }, true, "cut-out at $degrees")
            same(pixels(matte.upright(bitmap)).contentEquals(upright), true, "upright at $degrees")
        }
        // and a mask that is not turned is another one
        val wrong = bytes(segmenter.segment(lying(90, false)).probability)
        same(MaskMath.difference(bytes(expected), wrong).second > 0.05f, true, "a forgotten turn is noticed")
        refuses<IllegalArgumentException>("45", "0, 90, 180 or 270") { segmenter.segment(portrait, 45) }
    }

    private fun photo() = with(Prefer.CPU) { segmenter ->
        // three times as wide and twice as high: each pixel several times
        val width = 3 * portrait.width
        val height = 2 * portrait.height
        val from = pixels(portrait)
        val large = IntArray(width * height) { from[it / width / 2 * portrait.width + it % width / 3] }
        val photo = Bitmap.createBitmap(large, width, height, Bitmap.Config.ARGB_8888)
        val expected = segmenter.segment(portrait).probability.copyOf()
        val matte = segmenter.segment(photo)
        same(matte.probability.contentEquals(expected), true, "the mean of equal pixels is that pixel")
        same(matte.photoWidth to matte.photoHeight, width to height, "size")
        val alpha = matte.alpha(photo)
        val agreeing = alpha.indices.count {
            MaskMath.isPerson(alpha[it].toInt() and 255) ==
                MaskMath.isPerson(expected[it / width / 2 * portrait.width + it % width / 3])
        }
        same(agreeing > 0.95 * alpha.size, true, "refined and plain agree on $agreeing of ${alpha.size}")
        val cut = pixels(matte.cutout(photo))
        same(cut.indices.all { cut[it] ushr 24 == alpha[it].toInt() and 255 }, true, "the cut-out's alpha")
        refuses<IllegalArgumentException>("256x256", "${width}x$height") { matte.alpha(portrait) }
        val hardware = photo.copy(Bitmap.Config.HARDWARE, false)!!
        same(segmenter.segment(hardware).alpha(hardware).contentEquals(alpha), true, "a hardware bitmap")
    }

    private fun noisy(seed: Int): Bitmap {
        val random = java.util.Random(seed.toLong())
        val values = pixels(portrait)
        for (i in values.indices) {
            var pixel = 255 shl 24
            for (shift in listOf(16, 8, 0)) {
                val value = (values[i] shr shift and 255) + (8 * random.nextGaussian()).toInt()
                pixel = pixel or (value.coerceIn(0, 255) shl shift)
            }
            values[i] = pixel
        }
        return Bitmap.createBitmap(values, portrait.width, portrait.height, Bitmap.Config.ARGB_8888)
    }

    private fun far(one: FloatArray, other: FloatArray) = one.indices.sumOf { abs(one[it] - other[it]).toDouble() } / one.size

    private fun frames() = with(Prefer.CPU) { segmenter ->
        val clips = (0..3).map { noisy(it) }
        val plain = clips.map { segmenter.segment(it).probability.copyOf() }
        val smooth = clips.mapIndexed { i, frame ->
            // a photo in between changes nothing
            segmenter.segment(clips[0])
            segmenter.segmentFrame(frame, 0, false, i * 40_000_000L).probability.copyOf()
        }
        same(smooth[0].contentEquals(plain[0]), true, "the first frame is as it is")
        val flicker = far(plain[2], plain[3]) to far(smooth[2], smooth[3])
        // half of it; the noise here is strong, and where a neighbourhood changes, frames are kept apart
        same(flicker.second < 0.6 * flicker.first, true, "flicker $flicker")
    }

    private fun anew() = with(Prefer.CPU) { segmenter ->
        fun plain(frame: Bitmap, degrees: Int = 0) = segmenter.segment(frame, degrees, false).probability.copyOf()
        fun next(frame: Bitmap, degrees: Int, timeMs: Long) =
            segmenter.segmentFrame(frame, degrees, false, timeMs * 1_000_000).probability.copyOf()
        val (one, two) = listOf(noisy(1), noisy(2))
        next(one, 0, 0)
        same(next(two, 0, 40).contentEquals(plain(two)), false, "40 ms later")
        same(next(one, 0, 2000).contentEquals(plain(one)), true, "after a gap")
        same(next(two, 180, 2040).contentEquals(plain(two, 180)), true, "after a turn")
        segmenter.reset()
        same(next(one, 180, 2080).contentEquals(plain(one, 180)), true, "after reset")
    }

    private fun closing(suite: Suite) {
        for (prefer in listOf(Prefer.GPU, Prefer.CPU)) suite.test("closing, twice, on the $prefer") {
            val segmenter = PortraitSegmenter.create(context(), prefer)
            same(Device.opened > 0, true, "open")
            segmenter.close()
            same(Device.opened, 0, "open after close")
            segmenter.close()
            refuses<IllegalStateException>("closed") { segmenter.segment(portrait) }
            refuses<IllegalStateException>("closed") { segmenter.segmentFrame(portrait, 0, false, 0) }
        }
    }

    private fun misuse(suite: Suite) {
        suite.test("another thread is told so") {
            with(Prefer.CPU) { segmenter ->
                for (call in listOf<() -> Any>({ segmenter.segment(portrait) }, { segmenter.close() }, { segmenter.reset() })) {
                    var seen: Throwable? = null
                    val other = Thread({ seen = runCatching { call() }.exceptionOrNull() }, "analysis")
                    other.start()
                    other.join()
                    same(seen is IllegalStateException, true, "$seen")
                    same("thread analysis, but main made" in seen!!.message!!, true, "$seen")
                }
                segmenter.segment(portrait)
            }
        }
        suite.test("bitmaps that cannot be read") {
            with(Prefer.CPU) { segmenter ->
                val recycled = noisy(3).apply { recycle() }
                refuses<IllegalArgumentException>("recycled") { segmenter.segment(recycled) }
                refuses<IllegalArgumentException>("20000x10000") { segmenter.segment(Bitmap.hookOfSize(20_000, 10_000)) }
                val photo = noisy(4)
                val matte = segmenter.segment(photo)
                photo.recycle()
                refuses<IllegalArgumentException>("recycled") { matte.alpha(photo) }
                segmenter.segment(portrait)
            }
        }
    }

    private fun damage(suite: Suite) {
        fun copy(name: String, change: (File) -> Unit): Context {
            val folder = File(scratch, name)
            assets.copyRecursively(folder, overwrite = true)
            change(folder)
            return context(folder)
        }
        fun refused(name: String, prefer: Prefer, vararg words: String, spec: ModelSpec = this.spec, change: (File) -> Unit) =
            suite.test(name) {
                refuses<PortraitException>(*words) {
                    PortraitSegmenter.create(copy(name.filter { it.isLetter() }, change), prefer, spec = spec)
                }
            }
        refused("a missing file", Prefer.CPU, spec.cpuFile, "not among") { File(it, spec.cpuFile).delete() }
        refused("a truncated file", Prefer.CPU, spec.cpuFile) {
            val content = File(it, spec.cpuFile).readBytes()
            File(it, spec.cpuFile).writeBytes(content.copyOf(1000))
        }
        refused("no golden folder", Prefer.AUTO, "golden/") { File(it, "golden").deleteRecursively() }
        refused("another network's golden mask", Prefer.CPU, "golden mask is wrong") {
            File(it, spec.goldenPortrait).copyTo(File(it, spec.goldenCpu), overwrite = true)
        }
        refused("a constant of another scale", Prefer.CPU, "golden mask is wrong", spec = changed(scale = 1f / 512)) {}
        refused("a network of another size", Prefer.CPU, "portrait.png", "256x256", spec = changed(side = 128)) {}
        refused("the float file for the CPU", Prefer.CPU, spec.gpuFile, "bytes", spec = changed(cpu = spec.gpuFile)) {}
        refused("the byte file for the GPU", Prefer.GPU, spec.cpuFile, spec = changed(gpu = spec.cpuFile)) {}
    }

    private fun changed(
        scale: Float = spec.cpuScale,
        side: Int = spec.width,
        cpu: String = spec.cpuFile,
        gpu: String = spec.gpuFile,
    ) = ModelSpec(
        spec.name, side, side, gpu, cpu, scale, spec.goldenPortrait, spec.goldenGpu, spec.goldenCpu, spec.meanSteps,
        spec.flippedShare, spec.makeRefiner, spec.makeSmoother,
    )

    /** Of our code and the stand-ins; on a phone the camera's bitmap comes to it. */
    private fun allocations() = with(Prefer.CPU) { segmenter ->
        val frame = Bitmap.createBitmap(IntArray(640 * 480) { it * 31 }, 640, 480, Bitmap.Config.ARGB_8888)
        val meter = java.lang.management.ManagementFactory.getThreadMXBean() as com.sun.management.ThreadMXBean
        fun frames(count: Int) {
            for (i in 0 until count) segmenter.segmentFrame(frame, 90, true, i * 33_000_000L)
        }
        frames(20)
        val before = meter.getThreadAllocatedBytes(Thread.currentThread().id)
        val begin = System.nanoTime()
        frames(20)
        val each = (meter.getThreadAllocatedBytes(Thread.currentThread().id) - before) / 20
        println("# $each bytes allocated a frame, ${(System.nanoTime() - begin) / 20_000_000} ms with the Python child")
        same(each < 4096, true, "$each bytes a frame")
    }
}
