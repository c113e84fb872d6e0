package portrait

import android.content.res.AssetManager
import com.google.ai.edge.litert.Accelerator
import com.google.ai.edge.litert.CompiledModel
import com.google.ai.edge.litert.LiteRtException
import com.google.ai.edge.litert.TensorBuffer
import java.io.IOException
import java.nio.ByteBuffer
import java.nio.ByteOrder
import org.tensorflow.lite.Interpreter

/** Runs one file. Used, and closed, on the thread that made it. */
internal interface Engine : AutoCloseable {
    /** Writes the probability of person for [pixels] (0xAARRGGBB, rows of the network's width) into [probability]. */
    fun run(pixels: IntArray, probability: FloatArray)
}

/** A file that is missing, damaged or another than its manifest says, or a runtime that refuses it. */
class PortraitException(message: String, cause: Throwable? = null) : Exception(message, cause)

/**
 * The GPU, and nothing else: with the CPU as a second choice LiteRT runs there, slowly, and says nothing.
 *
 * Takes RGB in [0, 1]. `readFloat` allocates 4 bytes a pixel in each run: LiteRT's Kotlin has no way around it.
 */
internal class GpuEngine(assets: AssetManager, private val spec: ModelSpec) : Engine {
    private val model: CompiledModel
    private var inputs: List<TensorBuffer> = emptyList()
    private var outputs: List<TensorBuffer> = emptyList()
    private val values = FloatArray(3 * spec.width * spec.height)

    init {
        model = refusing("${spec.gpuFile} on the GPU") {
            CompiledModel.create(assets, spec.gpuFile, CompiledModel.Options(Accelerator.GPU))
        }
        try {
            inputs = refusing("${spec.gpuFile}: input") { model.createInputBuffers() }
            outputs = refusing("${spec.gpuFile}: output") { model.createOutputBuffers() }
        } catch (refused: PortraitException) {
            close()
            throw refused
        }
    }

    override fun run(pixels: IntArray, probability: FloatArray) {
        for (i in 0 until spec.width * spec.height) {
            val pixel = pixels[i]
            values[3 * i] = SHARES[pixel shr 16 and 255]
            values[3 * i + 1] = SHARES[pixel shr 8 and 255]
            values[3 * i + 2] = SHARES[pixel and 255]
        }
        val found = refusing("${spec.gpuFile}: run") {
            inputs[0].writeFloat(values)
            model.run(inputs, outputs)
            outputs[0].readFloat()
        }
        if (found.size != probability.size) {
            throw PortraitException("${spec.gpuFile}: ${found.size} values, not ${spec.width}x${spec.height}")
        }
        found.copyInto(probability)
    }

    override fun close() {
        inputs.forEach { it.close() }
        outputs.forEach { it.close() }
        model.close()
    }

    private inline fun <T> refusing(what: String, block: () -> T): T = try {
        block()
    } catch (refused: LiteRtException) {
        throw PortraitException("$what: ${refused.message}", refused)
    } catch (missing: LinkageError) {
        throw PortraitException("$what: LiteRT is not in this app: $missing", missing)
    }

    private companion object {
        val SHARES = FloatArray(256) { it / 255f }
    }
}

/** The CPU: bytes in, bytes out, no conversion. */
internal class CpuEngine(assets: AssetManager, private val spec: ModelSpec, threads: Int) : Engine {
    private val interpreter: Interpreter
    private val input = direct(4 * spec.width * spec.height)
    private val output = direct(spec.width * spec.height)

    init {
        val content = try {
            assets.open(spec.cpuFile).use { it.readBytes() }
        } catch (missing: IOException) {
            throw PortraitException("${spec.cpuFile}: not among the app's assets", missing)
        }
        val file = direct(content.size).put(content)
        file.rewind()
        interpreter = refusing { Interpreter(file, Interpreter.Options().setNumThreads(threads)) }
    }

    override fun run(pixels: IntArray, probability: FloatArray) {
        input.rewind()
        for (i in 0 until spec.width * spec.height) {
            val pixel = pixels[i]
            input.put((pixel shr 16).toByte()).put((pixel shr 8).toByte()).put(pixel.toByte()).put(-1)
        }
        // both stand at their end now or after the run: without these nothing is read
        input.rewind()
        output.rewind()
        refusing { interpreter.run(input, output) }
        output.rewind()
        for (i in probability.indices) probability[i] = (output.get().toInt() and 255) * spec.cpuScale
    }

    override fun close() = interpreter.close()

    private fun direct(size: Int): ByteBuffer = ByteBuffer.allocateDirect(size).order(ByteOrder.nativeOrder())

    // the Interpreter reports a damaged file, and tensors of another size, as the caller's argument or state
    private inline fun <T> refusing(block: () -> T): T = try {
        block()
    } catch (refused: IllegalArgumentException) {
        throw PortraitException("${spec.cpuFile}: ${refused.message}", refused)
    } catch (refused: IllegalStateException) {
        throw PortraitException("${spec.cpuFile}: ${refused.message}", refused)
    } catch (missing: LinkageError) {
        throw PortraitException("${spec.cpuFile}: LiteRT is not in this app: $missing", missing)
    }
}
