// A stand-in for TFLite's Interpreter; signatures as in the Java sources of LiteRT (tflite/java, org.tensorflow.lite).

package org.tensorflow.lite

import java.nio.ByteBuffer
import portrait.tests.Child
import portrait.tests.Device

class Interpreter(byteBuffer: ByteBuffer, options: Options) : AutoCloseable {
    class Options {
        internal var threads = -1

        fun setNumThreads(numThreads: Int): Options = apply { threads = numThreads }
    }

    private val child: Child
    private var isOpen = true

    init {
        require(byteBuffer.isDirect) { "Model ByteBuffer should be either a MappedByteBuffer or a direct ByteBuffer" }
        require(options.threads >= -1) { "numThreads should be >= -1" }
        val content = ByteArray(byteBuffer.remaining()).also { byteBuffer.get(it) }
        val file = java.io.File.createTempFile("portrait", ".tflite").apply { writeBytes(content) }
        val opened = Child.open(file)
        file.delete()
        child = requireNotNull(opened) { "ByteBuffer is not a valid TensorFlow Lite model flatbuffer" }
        Device.opened++
    }

    fun run(input: Any, output: Any) {
        check(isOpen) { "Internal error: The Interpreter has already been closed." }
        val from = input as ByteBuffer
        val to = output as ByteBuffer
        require(from.remaining() == child.inputBytes) {
            "Cannot copy to a TensorFlowLite tensor (image) with ${child.inputBytes} bytes from a Java Buffer with " +
                "${from.remaining()} bytes."
        }
        require(to.remaining() >= child.outputBytes) {
            "Cannot copy from a TensorFlowLite tensor (mask) with ${child.outputBytes} bytes to a Java Buffer with " +
                "${to.remaining()} bytes."
        }
        child.run(from, to)
    }

    override fun close() {
        if (!isOpen) return
        isOpen = false
        Device.opened--
        child.close()
    }
}
