// The page's end of the worker: one promise a question; a worker that died is put up again.

/** What the worker says to the user, word for word. */
export class Refusal extends Error {}

export class Client {
  #worker = null;
  #waiting = new Map();
  #next = 0;

  /** Counts the workers: a new one knows nothing of what was asked before. */
  generation = 0;

  /** @param onDeath called after the runtime crashed: everything has to be loaded again */
  constructor(onDeath) {
    this.onDeath = onDeath;
    this.#start();
  }

  #start() {
    this.generation++;
    this.#worker = new Worker("worker.js");
    this.#worker.onmessage = ({ data: { id, value, error, isRefusal } }) => {
      const { resolve, reject } = this.#waiting.get(id) ?? {};
      this.#waiting.delete(id);
      if (error === undefined) resolve?.(value);
      else reject?.(isRefusal ? new Refusal(error) : new Error(error));
    };
    this.#worker.onerror = (event) => {
      event.preventDefault();
      this.restart(event.message || "the worker could not be loaded");
    };
  }

  ask(kind, content = {}, transfer = []) {
    return new Promise((resolve, reject) => {
      const id = this.#next++;
      this.#waiting.set(id, { resolve, reject });
      this.#worker.postMessage({ id, kind, ...content }, transfer);
    });
  }

  /** Ends the worker and starts another; whatever was asked fails with the reason. */
  restart(reason) {
    this.#worker.terminate();
    for (const { reject } of this.#waiting.values()) reject(new Error(reason));
    this.#waiting.clear();
    this.#start();
    this.onDeath?.(reason);
  }
}
