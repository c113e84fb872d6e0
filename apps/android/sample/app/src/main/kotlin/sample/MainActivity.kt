package sample

import android.Manifest
import android.os.Bundle
import android.view.Gravity
import android.widget.Button
import android.widget.FrameLayout
import android.widget.ImageView
import android.widget.LinearLayout
import android.widget.TextView
import androidx.activity.ComponentActivity
import androidx.activity.result.contract.ActivityResultContracts
import androidx.camera.core.CameraSelector
import androidx.camera.core.ImageAnalysis
import androidx.camera.core.ImageProxy
import androidx.camera.lifecycle.ProcessCameraProvider
import androidx.core.content.ContextCompat
import java.util.concurrent.Executors
import portrait.PortraitException
import portrait.PortraitSegmenter

/** One screen: the front camera with its background blurred or replaced, and the time of a frame. */
class MainActivity : ComponentActivity() {
    private lateinit var picture: ImageView
    private lateinit var words: TextView

    // the segmenter is made, used and closed on this thread alone
    private val worker = Executors.newSingleThreadExecutor()
    private var segmenter: PortraitSegmenter? = null
    private var failed = false

    @Volatile
    private var background = Background.BLUR

    private val permission = registerForActivityResult(ActivityResultContracts.RequestPermission()) { granted ->
        if (granted) openCamera() else say("No camera: allow it in the settings of this app.")
    }

    override fun onCreate(savedInstanceState: Bundle?) {
        super.onCreate(savedInstanceState)
        picture = ImageView(this).apply { scaleType = ImageView.ScaleType.FIT_CENTER }
        words = TextView(this)
        val buttons = LinearLayout(this).apply { gravity = Gravity.CENTER }
        for (choice in Background.entries) {
            buttons.addView(Button(this).apply {
                text = choice.label
                setOnClickListener { background = choice }
            })
        }
        val below = LinearLayout(this).apply {
            orientation = LinearLayout.VERTICAL
            gravity = Gravity.CENTER
            setPadding(0, 0, 0, 96)
            addView(words)
            addView(buttons)
        }
        setContentView(FrameLayout(this).apply {
            addView(picture)
            addView(below, FrameLayout.LayoutParams(-1, -2, Gravity.BOTTOM))
        })
        permission.launch(Manifest.permission.CAMERA)
    }

    override fun onDestroy() {
        worker.execute { segmenter?.close() }
        worker.shutdown()
        super.onDestroy()
    }

    private fun openCamera() {
        val provider = ProcessCameraProvider.getInstance(this)
        provider.addListener({
            val analysis = ImageAnalysis.Builder()
                .setOutputImageFormat(ImageAnalysis.OUTPUT_IMAGE_FORMAT_RGBA_8888)
                .setBackpressureStrategy(ImageAnalysis.STRATEGY_KEEP_ONLY_LATEST)
                .build()
            analysis.setAnalyzer(worker) { frame -> frame.use(::show) }
            try {
                provider.get().unbindAll()
                provider.get().bindToLifecycle(this, CameraSelector.DEFAULT_FRONT_CAMERA, analysis)
            } catch (refused: IllegalArgumentException) {
                say("This device has no front camera.")
            }
        }, ContextCompat.getMainExecutor(this))
    }

    private fun show(frame: ImageProxy) {
        if (failed) return
        try {
            val ready = segmenter ?: PortraitSegmenter.create(this).also { segmenter = it }
            val begin = System.nanoTime()
            val bitmap = frame.toBitmap()
            // a front camera is shown as a mirror
            val matte = ready.segmentFrame(bitmap, frame.imageInfo.rotationDegrees, true, frame.imageInfo.timestamp)
            val shown = compose(matte, bitmap, background)
            val took = (System.nanoTime() - begin) / 1e6
            runOnUiThread {
                picture.setImageBitmap(shown)
                words.text = "%.1f ms a frame, %s".format(took, ready.runsOn)
            }
        } catch (refused: PortraitException) {
            failed = true
            say(refused.message.orEmpty())
        }
    }

    private fun say(text: String) = runOnUiThread { words.text = text }
}
