package retinaface.demo

import android.content.Context
import android.util.AttributeSet
import android.view.ViewGroup
import kotlin.math.roundToInt

/** Gives its children the shape of the camera's frames, as [FitCenter] lays a picture. */
class PreviewLayout(context: Context, attributes: AttributeSet?) : ViewGroup(context, attributes) {
    private var frameWidth = 4
    private var frameHeight = 3

    fun setFrame(width: Int, height: Int) {
        frameWidth = width
        frameHeight = height
        requestLayout()
    }

    override fun onMeasure(widthSpec: Int, heightSpec: Int) {
        setMeasuredDimension(MeasureSpec.getSize(widthSpec), MeasureSpec.getSize(heightSpec))
        val fit = FitCenter.of(frameWidth, frameHeight, measuredWidth, measuredHeight)
        for (i in 0 until childCount) getChildAt(i).measure(exactly(fit.width), exactly(fit.height))
    }

    override fun onLayout(changed: Boolean, left: Int, top: Int, right: Int, bottom: Int) {
        val fit = FitCenter.of(frameWidth, frameHeight, right - left, bottom - top)
        val x = fit.left.roundToInt()
        val y = fit.top.roundToInt()
        for (i in 0 until childCount) {
            val child = getChildAt(i)
            child.layout(x, y, x + child.measuredWidth, y + child.measuredHeight)
        }
    }

    private fun exactly(length: Float) = MeasureSpec.makeMeasureSpec(length.roundToInt(), MeasureSpec.EXACTLY)
}
