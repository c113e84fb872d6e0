package sample

import android.graphics.Bitmap
import android.graphics.Canvas
import android.graphics.Paint
import android.graphics.PorterDuff
import android.graphics.PorterDuffXfermode
import android.graphics.Rect
import portrait.Matte

/** What stands behind the person. */
enum class Background(val label: String) { NONE("As it is"), BLUR("Blur"), REPLACE("Replace") }

private val smooth = Paint(Paint.FILTER_BITMAP_FLAG)
private val erasing = Paint().apply { xfermode = PorterDuffXfermode(PorterDuff.Mode.DST_OUT) }

/** The frame, upright, with its background; on the CPU (a shader does it faster: shaders/matte.agsl). */
fun compose(matte: Matte, frame: Bitmap, background: Background): Bitmap {
    val person = matte.cutout(frame)
    val shown = Bitmap.createBitmap(person.width, person.height, Bitmap.Config.ARGB_8888)
    val canvas = Canvas(shown)
    val whole = Rect(0, 0, shown.width, shown.height)
    when (background) {
        Background.REPLACE -> canvas.drawColor(0xFF1A4D80.toInt())
        Background.NONE, Background.BLUR -> {
            canvas.drawBitmap(matte.upright(frame), 0f, 0f, null)
            if (background == Background.NONE) return shown
            // without the person, whose colours would shine around it as a halo
            canvas.drawBitmap(person, 0f, 0f, erasing)
            val blurred = reduced(shown, 16)
            canvas.drawColor(0, PorterDuff.Mode.CLEAR)
            // where little background lies near, drawing it again fills it up
            repeat(6) { canvas.drawBitmap(blurred, null, whole, smooth) }
        }
    }
    canvas.drawBitmap(person, 0f, 0f, null)
    return shown
}

/** Halved again and again: each step averages all pixels. */
private fun reduced(bitmap: Bitmap, factor: Int): Bitmap {
    var small = bitmap
    var left = factor
    while (left > 1) {
        small = Bitmap.createScaledBitmap(small, maxOf(1, small.width / 2), maxOf(1, small.height / 2), true)
        left /= 2
    }
    return small
}
