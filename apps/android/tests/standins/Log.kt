package android.util

object Log {
    /** Hook: what was logged. */
    val hookLines = ArrayList<String>()

    @JvmStatic
    fun w(tag: String, msg: String): Int {
        hookLines.add("$tag: $msg")
        return 0
    }
}
