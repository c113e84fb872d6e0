package portrait.tests

import java.io.DataInputStream
import java.io.DataOutputStream
import java.io.File
import java.nio.ByteBuffer
import java.nio.ByteOrder

/** What the phone of a test is like. */
object Device {
    var hasGpu = true
    var hasLibrary = true
    var isGpuWrong = false
    var gpuRunsLeft = Int.MAX_VALUE

    /** Models, buffers and interpreters that nobody has closed yet. */
    var opened = 0

    fun restore() {
        hasGpu = true
        hasLibrary = true
        isGpuWrong = false
        gpuRunsLeft = Int.MAX_VALUE
    }
}

/** A file in the real LiteRT, in a Python process: bytes of the input in, bytes of the output back. */
class Child private constructor(private val process: Process) {
    private val output = DataOutputStream(process.outputStream.buffered(1 shl 20))
    private val input = DataInputStream(process.inputStream.buffered(1 shl 20))
    val inputBytes = input.readInt()
    val outputBytes = if (inputBytes < 0) -1 else input.readInt()
    private val sent = ByteArray(maxOf(0, inputBytes))
    private val received = ByteArray(maxOf(0, outputBytes))

    fun run(from: ByteBuffer, to: ByteBuffer) {
        from.get(sent)
        output.write(sent)
        output.flush()
        input.readFully(received)
        to.put(received)
    }

    fun runFloats(values: FloatArray): FloatArray {
        val from = ByteBuffer.allocate(inputBytes).order(ByteOrder.LITTLE_ENDIAN)
        from.asFloatBuffer().put(values)
        val to = ByteBuffer.allocate(outputBytes).order(ByteOrder.LITTLE_ENDIAN)
        run(from, to)
        to.rewind()
        return FloatArray(outputBytes / 4).also { to.asFloatBuffer().get(it) }
    }

    fun close() {
        process.outputStream.close()
        process.waitFor()
    }

    companion object {
        lateinit var command: List<String>

        /** null: no file that LiteRT takes. */
        fun open(file: File): Child? {
            val process = ProcessBuilder(command + file.path).redirectError(ProcessBuilder.Redirect.DISCARD).start()
            val child = Child(process)
            if (child.inputBytes >= 0) return child
            child.close()
            return null
        }
    }
}
