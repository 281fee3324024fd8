// The same from CommonJS.
import walmirror = require('walmirror');

export const open: (dir: string) => Promise<walmirror.Log> = (dir) => walmirror.Log.open({ dir });
