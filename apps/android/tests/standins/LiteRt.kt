// Stand-ins for LiteRT's Kotlin; signatures as in its sources at google-ai-edge/LiteRT 070f50f (Model.kt), 0b7af5a
// (TensorBuffer.kt), 173ea62 (LiteRtException.kt). They run the file in the real LiteRT, in a Python process.

package com.google.ai.edge.litert

import android.content.res.AssetManager
import portrait.tests.Child
import portrait.tests.Device

class LiteRtException(@Suppress("unused") code: Int, message: String) : Exception(message)

enum class Accelerator { NONE, CPU, GPU, NPU }

class Environment private constructor()

class TensorBuffer internal constructor(private val size: Int) : AutoCloseable {
    internal var values = FloatArray(size)
    private var isOpen = true

    init {
        Device.opened++
    }

    fun writeFloat(data: FloatArray) {
        check(isOpen) { "The handle has been destroyed." }
        if (data.size != size) throw LiteRtException(1, "${data.size} floats for a buffer of $size")
        data.copyInto(values)
    }

    fun readFloat(): FloatArray {
        check(isOpen) { "The handle has been destroyed." }
        return values.copyOf()
    }

    override fun close() {
        if (isOpen) Device.opened--
        isOpen = false
    }
}

class CompiledModel private constructor(private val child: Child) : AutoCloseable {
    class Options(vararg val accelerators: Accelerator)

    private val thread = Thread.currentThread()
    private var isOpen = true

    init {
        Device.opened++
    }

    @JvmOverloads
    fun createInputBuffers(signatureIndex: Int = 0): List<TensorBuffer> =
        listOf(TensorBuffer(child.inputBytes / 4 + 0 * signatureIndex))

    @JvmOverloads
    fun createOutputBuffers(signatureIndex: Int = 0): List<TensorBuffer> =
        listOf(TensorBuffer(child.outputBytes / 4 + 0 * signatureIndex))

    @JvmOverloads
    fun run(inputs: List<TensorBuffer>, outputs: List<TensorBuffer>, signatureIndex: Int = 0) {
        check(isOpen && signatureIndex == 0) { "The handle has been destroyed." }
        check(Thread.currentThread() === thread) { "a GPU's model on another thread than the one that made it" }
        if (Device.gpuRunsLeft-- <= 0) throw LiteRtException(3, "Failed to run: the context is lost")
        outputs[0].values = child.runFloats(inputs[0].values)
        if (Device.isGpuWrong) outputs[0].values.reverse()
    }

    override fun close() {
        if (!isOpen) return
        Device.opened--
        isOpen = false
        child.close()
    }

    companion object {
        @JvmStatic
        @JvmOverloads
        fun create(
            assetManager: AssetManager,
            assetName: String,
            options: Options = Options(Accelerator.CPU),
            optionalEnv: Environment? = null,
        ): CompiledModel {
            check(optionalEnv == null)
            if (Accelerator.GPU in options.accelerators) {
                check(options.accelerators.size == 1) { "with a second accelerator LiteRT runs on that, in silence" }
                if (!Device.hasLibrary) throw NoClassDefFoundError("com/google/ai/edge/litert/GpuBackend")
                if (!Device.hasGpu) throw LiteRtException(504, "Failed to compile model: no GPU")
            }
            val file = try {
                assetManager.hookFile(assetName)
            } catch (missing: java.io.IOException) {
                throw LiteRtException(500, "Failed to load $assetName: ${missing.message}")
            }
            return CompiledModel(Child.open(file) ?: throw LiteRtException(501, "Failed to load model: $assetName"))
        }
    }
}
