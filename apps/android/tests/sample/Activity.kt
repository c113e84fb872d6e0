package android.app

import android.content.Context
import android.content.res.AssetManager
import android.os.Bundle
import android.view.View

open class Activity : Context() {
    override val assets: AssetManager get() = TODO()

    protected open fun onCreate(savedInstanceState: Bundle?): Unit = TODO("$savedInstanceState")

    protected open fun onDestroy(): Unit = TODO()

    fun setContentView(view: View): Unit = TODO("$view")

    fun runOnUiThread(action: Runnable): Unit = TODO("$action")
}
