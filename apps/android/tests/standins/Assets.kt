package android.content.res

import java.io.File
import java.io.FileNotFoundException
import java.io.InputStream

class AssetManager private constructor(private val folder: File) : AutoCloseable {
    fun open(fileName: String): InputStream = hookFile(fileName).inputStream()

    override fun close() = Unit

    /** Hook: where a file of the assets lies. */
    fun hookFile(fileName: String): File =
        File(folder, fileName).takeIf { it.isFile } ?: throw FileNotFoundException(fileName)

    companion object {
        /** Hook: the assets of an app in a folder. */
        fun hookOf(folder: File) = AssetManager(folder)
    }
}
