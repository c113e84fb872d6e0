package portrait.tests

/** docs/vectors.json, no more of JSON than that: objects, arrays, numbers, words without escapes, true and false. */
class Json(private val text: String) {
    private var at = 0

    fun read(): Any {
        skip()
        return when (text[at]) {
            '{' -> readObject()
            '[' -> readArray()
            '"' -> readWord()
            't' -> true.also { at += 4 }
            'f' -> false.also { at += 5 }
            else -> readNumber()
        }
    }

    private fun readObject(): Map<String, Any> {
        val found = LinkedHashMap<String, Any>()
        at++
        while (true) {
            skip()
            if (text[at] == '}') break
            val key = readWord()
            skip()
            check(text[at++] == ':')
            found[key] = read()
            skip()
            if (text[at] == ',') at++
        }
        at++
        return found
    }

    private fun readArray(): List<Any> {
        val found = ArrayList<Any>()
        at++
        while (true) {
            skip()
            if (text[at] == ']') break
            found.add(read())
            skip()
            if (text[at] == ',') at++
        }
        at++
        return found
    }

    private fun readWord(): String {
        val begin = ++at
        while (text[at] != '"') at += if (text[at] == '\\') error("an escape") else 1
        return text.substring(begin, at++)
    }

    private fun readNumber(): Double {
        val begin = at
        while (text[at] in "+-.eE0123456789") at++
        return text.substring(begin, at).toDouble()
    }

    private fun skip() {
        while (text[at].isWhitespace()) at++
    }
}

@Suppress("UNCHECKED_CAST")
operator fun Any.get(key: String): Any = (this as Map<String, Any>).getValue(key)

fun Any.number(): Double = this as Double

fun Any.list(): List<Any> = (this as List<*>).map { it!! }

/** Nested arrays of numbers, flat. */
fun Any.floats(): FloatArray {
    val found = ArrayList<Float>()
    fun walk(value: Any?) {
        if (value is List<*>) value.forEach(::walk) else found.add((value as Double).toFloat())
    }
    walk(this)
    return found.toFloatArray()
}

/** A picture of the file: its pixels, opaque. */
class Picture(nested: Any) : portrait.PixelSource {
    override val height = nested.list().size
    override val width = nested.list()[0].list().size
    val pixels: IntArray = nested.floats().let { bytes ->
        IntArray(width * height) {
            (255 shl 24) or (bytes[3 * it].toInt() shl 16) or (bytes[3 * it + 1].toInt() shl 8) or bytes[3 * it + 2].toInt()
        }
    }

    override fun readRow(y: Int, into: IntArray) {
        pixels.copyInto(into, 0, y * width, (y + 1) * width)
    }
}
