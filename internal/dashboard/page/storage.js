// What the browser keeps for the page. Where its user does not allow that, even to ask for it throws: then it is kept in
// memory, for the page's life.

function kept(area) {
  const memory = new Map();
  const attempt = (use, otherwise) => {
    try { return use(window[area]); } catch { return otherwise(); }
  };
  return {
    get: (name) => attempt((storage) => storage.getItem(name), () => memory.get(name) ?? null),
    set: (name, value) => attempt((storage) => storage.setItem(name, value), () => memory.set(name, value)),
    remove: (name) => attempt((storage) => storage.removeItem(name), () => memory.delete(name)),
  };
}

export const inThisBrowser = kept("localStorage");
export const inThisTab = kept("sessionStorage");
