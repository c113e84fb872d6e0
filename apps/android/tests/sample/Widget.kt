package android.widget

import android.content.Context
import android.graphics.Bitmap
import android.view.View
import android.view.ViewGroup

open class TextView(context: Context) : View(context) {
    var text: CharSequence = ""
}

class Button(context: Context) : TextView(context)

class ImageView(context: Context) : View(context) {
    enum class ScaleType { FIT_CENTER }

    var scaleType: ScaleType = ScaleType.FIT_CENTER

    fun setImageBitmap(bm: Bitmap?): Unit = TODO("$bm")
}

class LinearLayout(context: Context) : ViewGroup(context) {
    var gravity: Int = 0
    var orientation: Int = 0

    companion object {
        const val VERTICAL = 1
    }
}

class FrameLayout(context: Context) : ViewGroup(context) {
    class LayoutParams(val width: Int, val height: Int, val gravity: Int) : ViewGroup.LayoutParams()
}
