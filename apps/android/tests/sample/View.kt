package android.view

import android.content.Context

open class View(val context: Context) {
    fun interface OnClickListener {
        fun onClick(v: View)
    }

    fun setOnClickListener(l: OnClickListener?): Unit = TODO("$l")

    fun setPadding(left: Int, top: Int, right: Int, bottom: Int): Unit = TODO("$left $top $right $bottom")
}

open class ViewGroup(context: Context) : View(context) {
    open class LayoutParams

    fun addView(child: View): Unit = TODO("$child")

    fun addView(child: View, params: LayoutParams): Unit = TODO("$child $params")
}

object Gravity {
    const val CENTER = 17
    const val BOTTOM = 80
}
