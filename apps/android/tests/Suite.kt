package portrait.tests

/** A test framework of forty lines: one line a test, and how many passed. */
class Suite(private val only: String) {
    private var passed = 0
    private var failed = 0

    fun test(name: String, body: () -> Unit) {
        if (only !in name) return
        Device.restore()
        android.util.Log.hookLines.clear()
        try {
            body()
            same(Device.opened, 0, "models and buffers left open")
            passed++
            println("ok $name")
        } catch (failure: Throwable) {
            failed++
            Device.opened = 0
            println("FAILED $name: $failure")
            failure.printStackTrace(System.out)
        }
    }

    fun finish(): Int {
        println("$passed passed, $failed failed")
        return if (failed == 0 && passed > 0) 0 else 1
    }
}

fun same(found: Any?, expected: Any?, what: String) {
    if (found != expected) throw AssertionError("$what: $found, not $expected")
}

/** The exception's message, which holds each of [words]. */
inline fun <reified E : Throwable> refuses(vararg words: String, body: () -> Unit): String {
    try {
        body()
    } catch (refused: Throwable) {
        if (refused !is E) throw AssertionError("${E::class.simpleName} expected, not $refused", refused)
        val message = refused.message.orEmpty()
        for (word in words) if (word !in message) throw AssertionError("no '$word' in: $message")
        return message
    }
    throw AssertionError("no ${E::class.simpleName}")
}
