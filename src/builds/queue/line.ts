// Who waits, in the order in which they are served: a higher priority first, and the callers of one priority in turn, so that nobody's
// hundred hold up somebody's one.

export interface Place {
  readonly caller: string;
  readonly priority: number;
}

interface Line<T> {
  readonly size: number;
  add(item: T, place: Place): void;
  /** Takes out whose turn it is, but for callers that are to wait; undefined where nobody else waits. */
  next(hasToWait?: (caller: string) => boolean): T | undefined;
  /** Whether it waited. */
  remove(item: T): boolean;
}

/** The items of each caller; the caller whose turn it is comes first. */
type Callers<T> = Map<string, Set<T>>;

export function createLine<T>(): Line<T> {
  const places = new Map<T, Place>();
  const priorities = new Map<number, Callers<T>>();

  function take(item: T, { caller, priority }: Place): void {
    places.delete(item);
    const callers = priorities.get(priority);
    const items = callers?.get(caller);
    items?.delete(item);
    if (items?.size === 0) callers?.delete(caller);
    if (callers?.size === 0) priorities.delete(priority);
  }

  function first(hasToWait: (caller: string) => boolean): T | undefined {
    for (const priority of [...priorities.keys()].sort((a, b) => b - a)) {
      for (const [caller, items] of priorities.get(priority) ?? []) {
        if (!hasToWait(caller)) return items.values().next().value;
      }
    }
    return undefined;
  }

  return {
    get size() {
      return places.size;
    },
    add(item, place) {
      const { caller, priority } = place;
      const callers: Callers<T> = priorities.get(priority) ?? new Map();
      priorities.set(priority, callers.set(caller, (callers.get(caller) ?? new Set()).add(item)));
      places.set(item, place);
    },
    next(hasToWait = () => false) {
      const item = first(hasToWait);
      const place = item !== undefined && places.get(item);
      if (!place) return undefined;
      take(item, place);
      passTurn(priorities.get(place.priority), place.caller);
      return item;
    },
    remove(item) {
      const place = places.get(item);
      if (place) take(item, place);
      return place !== undefined;
    },
  };
}

function passTurn<T>(callers: Callers<T> | undefined, caller: string): void {
  const items = callers?.get(caller);
  if (!items) return;
  callers?.delete(caller);
  callers?.set(caller, items);
}
