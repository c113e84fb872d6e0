// What of Android's drawing the sample calls, to be compiled against, not run. Checked as ../standins.

package android.graphics

class Canvas(@Suppress("unused") private val bitmap: Bitmap) {
    fun drawColor(color: Int): Unit = TODO("$color")

    fun drawColor(color: Int, mode: PorterDuff.Mode): Unit = TODO("$color $mode")

    fun drawBitmap(bitmap: Bitmap, left: Float, top: Float, paint: Paint?): Unit = TODO("$bitmap $left $top $paint")

    fun drawBitmap(bitmap: Bitmap, src: Rect?, dst: Rect, paint: Paint?): Unit = TODO("$bitmap $src $dst $paint")
}

@Suppress("unused")
class Rect(private val left: Int, private val top: Int, private val right: Int, private val bottom: Int)

open class Xfermode

class PorterDuffXfermode(@Suppress("unused") private val mode: PorterDuff.Mode) : Xfermode()

class PorterDuff {
    enum class Mode { CLEAR, DST_OUT }
}

class Paint(@Suppress("unused") private val flags: Int = 0) {
    var xfermode: Xfermode? = null

    companion object {
        const val FILTER_BITMAP_FLAG = 2
    }
}
